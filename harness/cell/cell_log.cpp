#include "harness/cell/cell_log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"

namespace harness::cell {
namespace {

std::string now() {
  const std::time_t time = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&time, &utc);
  std::array<char, 32> text;
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text.data();
}

std::string where() {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  std::string text = "host " + std::string(host.data()) + ", process " + std::to_string(::getpid());
  for (const char* name : {"SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT",
                           "CUDA_VISIBLE_DEVICES"}) {
    if (const char* value = std::getenv(name)) text += std::string(", ") + name + "=" + value;
  }
  return text;
}

}  // namespace

CellLog::CellLog(const std::filesystem::path& folder) {
  make_folders(folder);
  const std::filesystem::path file = folder / "log.txt";
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor < 0)
    throw UserError({file.string(), "", std::strerror(errno), "a place that can be written to", ""});
  std::fflush(stderr);
  before_ = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
  ::dup2(descriptor, STDERR_FILENO);
  ::close(descriptor);
  line("begins; " + where());
}

CellLog::~CellLog() {
  std::fflush(stderr);
  ::dup2(before_, STDERR_FILENO);
  ::close(before_);
}

void CellLog::line(const std::string& text) const {
  std::fprintf(stderr, "%s %s\n", now().c_str(), text.c_str());
}

}  // namespace harness::cell
