#pragma once

namespace harness {

// Thrown at a poll point after a stop signal: the cell is left, what is finished of it stays, exit 3.
struct Interrupted {};

// SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 ask to stop at the next poll point. `one_is_enough`: every further one
// ends this process at once (a command that computes by itself); else they are counted (the planner, which
// has workers to end) or mean the same again (a worker).
void install_stop_signals(bool one_is_enough);
int stop_signals();  // so far
bool stop_requested();
void throw_if_stopped();

}  // namespace harness
