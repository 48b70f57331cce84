#include "harness/core/process_memory.hpp"

#include <unistd.h>

#include <fstream>
#include <string>

namespace harness {

double resident_megabytes(pid_t process) {
  std::ifstream statm("/proc/" + std::to_string(process) + "/statm");
  double whole = 0, resident = 0;
  statm >> whole >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1e6;
}

double resident_megabytes() {
  return resident_megabytes(::getpid());
}

double peak_megabytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) * 1024 / 1e6;
  }
  return 0;
}

void reset_peak() {
  std::ofstream("/proc/self/clear_refs") << "5";
}

}  // namespace harness
