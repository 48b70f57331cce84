#pragma once

namespace harness {

// The worker's side of process.hpp: reads requests from standard input until it ends, answers on descriptor
// WorkerProcess::kReplies. Requests, each with "do":
//   start   config (effective), limit, results, device, threads, workers     -> ready {device} | refused |
//   failed probe   entries (plan.hpp): opens their subjects and published models    -> probed {problems} |
//   failed cell    entry, reuse ("everything", "retry", "nothing")                  -> part {name, spent}
//   ...,
//             after part fix its begin in memory: fix_begun {resident megabytes}, progress {done, what} ...,
//             then one of finished {status, reason, mistrusted, seconds, computed}, failed (text: no result,
//             trouble of the machine), refused {problems}, interrupted
// Returns the exit code. A worker that was not started by a planner says so (UserError).
int run_worker();

}  // namespace harness
