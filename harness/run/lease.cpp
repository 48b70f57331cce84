#include "harness/run/lease.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>

#include "harness/core/files.hpp"

namespace harness {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

fs::path file_in(const fs::path& folder) {
  return folder / "lease.json";
}

std::string first_line(const fs::path& file) {
  std::string line;
  std::getline(std::ifstream(file) >> std::ws, line);
  return line;
}

// When a process started, in clock ticks since the machine did: with the number it names one process.
std::string start_of(int64_t pid) {
  const std::string stat = first_line("/proc/" + std::to_string(pid) + "/stat");
  const size_t name_end = stat.rfind(')');  // the name before it may hold anything
  if (name_end == std::string::npos) return "";
  std::istringstream fields(stat.substr(name_end + 1));
  std::string field;
  for (int number = 3; number <= 22 && fields >> field; ++number) {
    if (number == 3 && (field == "Z" || field == "X")) return "";  // gone, though not yet buried
  }
  return field;
}

// Where process numbers mean the same: one start of one machine, one name space. Not a host name.
std::string here() {
  std::error_code ignored;
  return first_line("/proc/sys/kernel/random/boot_id") + " " +
         fs::read_symlink("/proc/self/ns/pid", ignored).string();
}

json owner() {
  const int64_t pid = ::getpid();
  return {{"place", here()}, {"process", pid}, {"started", start_of(pid)}};
}

double age_of(const fs::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return Lease::kDeadSeconds;
  const double changed =
      static_cast<double>(status.st_mtim.tv_sec) + 1e-9 * static_cast<double>(status.st_mtim.tv_nsec);
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return now - changed;
}

bool is_alive_file(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return false;
  try {
    const json value = json::parse(read_text(file));
    if (value.at("place") == here()) {
      const std::string started = start_of(value.at("process"));
      return !started.empty() && started == value.at("started");
    }
  } catch (const std::exception&) {  // unreadable: only its age counts
  }
  return age_of(file) < Lease::kDeadSeconds;
}

}  // namespace

std::unique_ptr<Lease> Lease::take(const fs::path& folder) {
  make_folders(folder);
  const fs::path file = file_in(folder);
  if (is_alive_file(file)) return nullptr;
  std::error_code ignored;
  fs::remove(file, ignored);
  // A link appears whole and once: of two that found the same dead lease the second one sees the first's.
  AtomicFile whole(file);
  write_atomically(whole.temporary(), owner().dump() + "\n",
                   Flush::nothing);  // reports why, where it cannot be written
  if (::link(whole.temporary().c_str(), file.c_str()) != 0) {
    if (errno == EEXIST) return nullptr;
    whole.commit(Flush::nothing);  // a file system without links
  }
  return std::unique_ptr<Lease>(new Lease(file));
}

Lease::~Lease() {
  std::error_code ignored;
  fs::remove(file_, ignored);
}

void Lease::beat() const {
  ::utimensat(AT_FDCWD, file_.c_str(), nullptr, 0);  // on a shared file system in the server's time
}

void Lease::sweep(const fs::path& folder) {
  const fs::path file = file_in(folder);
  std::error_code ignored;
  if (fs::exists(file, ignored) && !is_alive_file(file)) fs::remove(file, ignored);
}

bool Lease::is_alive(const fs::path& folder) {
  return is_alive_file(file_in(folder));
}

}  // namespace harness
