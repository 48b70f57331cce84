#pragma once

namespace harness::pool {

// The worker's side: reads requests (protocol.hpp) from standard input until it ends, and answers each.
// Returns the exit code. Throws UserError where this process was not started by an engine.
int run_worker();

}  // namespace harness::pool
