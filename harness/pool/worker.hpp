#pragma once

namespace harness {

// The worker's side of process.hpp: reads requests from standard input until it ends, answers on descriptor
// WorkerProcess::kReplies. Requests, each with "do":
//   start   config (effective), limit, results, device, threads, workers    -> ready {device}
//   probe   entries (plan.hpp): opens their subjects and published models   -> probed {problems}
//   cell    entry, reuse ("everything", "retry", "nothing"), lease and redo (their tokens)
//           -> part {name, spent} ..., after part fix its begin in memory: fix_begun {resident megabytes},
//              progress {done, what} ..., then one of finished {status, reason, mistrusted, seconds,
//              computed}, interrupted, lost (another process has the cell)
//   check   a trivial operation on the device                               -> well
// Each may be answered by failed {why, of_file: a file was the reason}, all but cell by refused {problems}.
// Returns the exit code. A worker that was not started by a planner says so (UserError).
int run_worker();

}  // namespace harness
