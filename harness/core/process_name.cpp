#include "harness/core/process_name.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <random>
#include <sstream>

#include "harness/core/files.hpp"

namespace harness {
namespace {

namespace fs = std::filesystem;

// The text of a small file below /proc; empty if it does not exist, nothing if it cannot be read.
std::optional<std::string> proc_text(const std::string& file) {
  const int descriptor = ::open(("/proc/" + file).c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return errno == ENOENT ? std::optional(std::string()) : std::nullopt;
  std::array<char, 4096> bytes;
  const ssize_t count = ::read(descriptor, bytes.data(), bytes.size());
  const bool has_gone = count < 0 && errno == ESRCH;
  ::close(descriptor);
  if (count < 0) return has_gone ? std::optional(std::string()) : std::nullopt;
  return std::string(bytes.data(), static_cast<size_t>(count));
}

// When the process started; empty if it has ended (zombies included), nothing if that cannot be found out.
std::optional<std::string> start_of(int64_t number) {
  const std::optional<std::string> stat = proc_text(std::to_string(number) + "/stat");
  if (!stat) return std::nullopt;
  const size_t name_end = stat->rfind(')');  // the name before it may hold anything
  if (name_end == std::string::npos) return "";
  std::istringstream fields(stat->substr(name_end + 1));
  std::string field;
  for (int place = 3; place <= 22 && fields >> field; ++place) {
    if (place == 3 && (field == "Z" || field == "X")) return "";
  }
  return field;
}

std::string this_place() {
  std::error_code error;
  // in a PID namespace without a /proc of its own, the numbers below /proc are those of another namespace
  if (fs::read_symlink("/proc/self", error).string() != std::to_string(::getpid())) return "";
  const std::string boot = proc_text("sys/kernel/random/boot_id").value_or("");
  const std::string space = fs::read_symlink("/proc/self/ns/pid", error).string();
  return boot.empty() || space.empty() ? "" : digest_of(boot + space).substr(0, 16);
}

}  // namespace

ProcessName this_process() {
  const int64_t number = ::getpid();
  return {this_place(), number, start_of(number).value_or("")};
}

Life life_of(const ProcessName& process) {
  if (process.place.empty() || process.started.empty() || process.place != this_place()) return Life::unknown;
  const std::optional<std::string> started = start_of(process.number);
  if (!started) return Life::unknown;
  return *started == process.started ? Life::alive : Life::gone;
}

std::string random_name(int bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::random_device source;  // of the kernel or the processor
  std::string text;
  for (int k = 0; k < bytes; ++k) {
    const unsigned int byte = source();
    text += kDigits[byte >> 4 & 15];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace harness
