#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "harness/approach/approach.hpp"
#include "harness/cell/checkpoint.hpp"
#include "harness/measure/subject.hpp"
#include "harness/model/cause.hpp"
#include "harness/store/record.hpp"

namespace harness::cell {

// Numbers of wrong and right predictions of the original on the repair split, where there is one, and of the
// wrong ones by each pair of label and prediction.
struct RepairCounts {
  std::optional<int64_t> faults, correct;
  std::optional<std::vector<int64_t>> error_types;
};
RepairCounts count_repair(const std::vector<int32_t>& labels, const std::vector<int32_t>& classes);

// Memory of one fix in megabytes (10^6 bytes): its peak, and the largest growth since the fix began. Host:
// resident memory of the process. Device: tensors of LibTorch on the CUDA device, 0 on the CPU. Where the
// kernel cannot reset its peak, the host's values count from the start of the process.
struct FixMemory {
  double peak = 0, growth = 0;
  double device_peak = 0, device_growth = 0;
};

// All that a fix needs, whatever cell it belongs to.
struct FixJob {
  const Approach* approach = nullptr;
  FixRequest request = {};
  at::Tensor sample = {};  // a few inputs, for the warm-up
  Budget budget = {};
  std::function<void(double, const std::string&)> progress = {};
  std::function<void(double megabytes)> begun = {};  // its clock starts; resident memory at that moment
  std::optional<CheckpointState> resumed = {};       // of an interrupted run of this fix
  FixSpent before = {};                              // what that one used up
  std::function<void(const CheckpointState&, const FixSpent&)> save = {};  // empty: no checkpoints
  double checkpoint_seconds = 30;                                          // least time between two
};
// The job of one approach on a subject; the caller adds budget, hooks and checkpoints.
FixJob fix_job(const Approach& approach, const Subject& subject, const ApproachConfig& entry,
               const RepairCounts& repair, uint64_t seed);

struct FixOutcome {
  Status status = Status::ok;
  std::string reason;     // "code: text", or a note where status is ok
  FixResult result;       // with a network exactly where status is ok
  std::string cut_short;  // the budget that ended it, such as "60 s"; empty: none did, or it is a program
  FixLog log;
  double seconds = 0;                      // of fix() alone, device synchronised, with those before
  std::optional<FixMemory> memory = {};    // of this run of it; absent where the work was another process's
  std::set<std::string> nondeterministic;  // operators without a deterministic form
};

// Why the approach cannot be applied, before any work: missing_split, or what its adapt() says.
std::optional<Refusal> why_unadaptable(const FixJob& job);

// adapt(), warm-up, fix(). An exception inside fix() becomes a FAILURE (crashed, out_of_memory, timeout);
// UserError, Interrupted and errors of the device pass through.
FixOutcome run_fix(const FixJob& job);

}  // namespace harness::cell
