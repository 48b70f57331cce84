#pragma once

namespace harness {

// Thrown at a poll point after a stop signal. The cell's finished stages stay; the program exits with 3.
struct Interrupted {};

// SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 request a stop at the next poll point. With `one_is_enough`, the
// second signal ends this process at once (a command that computes by itself). Without, signals are counted
// (the planner kills its workers at the second; a worker ignores further ones).
void install_stop_signals(bool one_is_enough);
int stop_signals();  // number of them so far
bool stop_requested();
void throw_if_stopped();

}  // namespace harness
