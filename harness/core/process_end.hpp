#pragma once

#include <string>

namespace harness {

// How a process ended: an exit code or a signal.
struct ProcessEnd {
  int code = 0, signal = 0;
};
// "signal 11 (SIGSEGV)", "exit code 3".
std::string to_text(const ProcessEnd& end);

}  // namespace harness
