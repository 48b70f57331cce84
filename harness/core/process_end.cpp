#include "harness/core/process_end.hpp"

#include <cstring>

namespace harness {

std::string to_text(const ProcessEnd& end) {
  if (end.signal == 0) return "exit code " + std::to_string(end.code);
  const char* name = ::sigabbrev_np(end.signal);
  return "signal " + std::to_string(end.signal) + (name != nullptr ? std::string(" (SIG") + name + ")" : "");
}

}  // namespace harness
