#pragma once

#include <functional>
#include <string>

namespace harness {

// Tries something that may end the process or never come to an end, because a library trusts the file that it
// reads: `attempt` runs first in a forked copy of this process, on one thread, for at most `seconds` of
// computing. Says how the copy was ended, "SIGSEGV" or "20 s of computing"; empty where it came to an end,
// also by an exception; where it waited for five minutes without an end, which no reading does; where
// somebody killed it; and where the system has no process to spare. Requests to stop are for this process
// alone. Only this thread goes on in the copy: locks of others stay locked there.
std::string ended_by(const std::function<void()>& attempt, int seconds);

}  // namespace harness
