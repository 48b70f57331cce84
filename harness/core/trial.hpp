#pragma once

#include <functional>
#include <string>

namespace harness {

// Runs `attempt` in a forked copy of this process, because it may crash or never return (a library trusts the
// file that it reads). The copy gets at most `seconds` of CPU time. Returns what ended the copy: "SIGSEGV",
// "20 s of computing" or "exit code 3". Returns an empty text if `attempt` returned or threw, if somebody
// else killed the copy, if it took more than five minutes of wall time (it waits for a file system or a
// lock), and if no process could be forked. The copy ignores stop signals. It has this thread only, so locks
// that other threads hold stay locked in it.
std::string ended_by(const std::function<void()>& attempt, int seconds);

}  // namespace harness
