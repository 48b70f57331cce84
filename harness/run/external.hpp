#pragma once

#include "harness/run/fixing.hpp"

namespace harness {

// One fix by an external program (scripts/examples/README.md): writes a request file into job.scratch, starts
// the program with its path as last argument, waits, reads its report and its fixed model. The program's
// process time is the fix's time, the phases of its report are the log's.
//
// Whatever the program does becomes an outcome: a FAILURE crashed (exit code, signal, no report, a report or
// a model that cannot be read, with the end of its standard error), timeout, out_of_memory, or the status of
// its report. A stop signal (run/stop.hpp) is passed on as SIGTERM; a program that does not end within a
// grace period is killed; then Interrupted is thrown and job.scratch keeps what the program left there for
// the next time. Throws UserError where the program cannot be started or the request not be written.
FixOutcome run_external(const FixJob& job);

}  // namespace harness
