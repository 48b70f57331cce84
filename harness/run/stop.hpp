#pragma once

namespace harness {

// Thrown at a poll point after a stop signal: the cell is given up, nothing of it is recorded, exit 3.
struct Interrupted {};

// The first SIGINT, SIGTERM or SIGUSR1 asks to stop at the next poll point, a second one ends at once.
void install_stop_signals();
bool stop_requested();
void throw_if_stopped();

}  // namespace harness
