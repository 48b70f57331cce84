#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/plan/plan.hpp"
#include "harness/plan/plan_file.hpp"
#include "harness/plan/redo.hpp"
#include "harness/plan/selection.hpp"
#include "harness/store/record_index.hpp"

namespace harness::plan {

// Which results of earlier computations of a cell may be used again.
enum class Reuse {
  everything,  // every stage that is still right, and the checkpoint
  retry,       // the same, but not a recorded failure of the fix (--retry, a budget that grew)
  nothing      // --redo: nothing but what the same redo left, by its token
};

const char* to_text(Reuse reuse);

// One cell that is to be computed.
struct Task {
  size_t place = 0;  // in the plan
  Reuse reuse = Reuse::everything;
  double expected = 0;  // seconds; 0: unknown
  int failures = 0;     // so far: how often it ended without a result
};

// The selected cells, and those of them that are to be computed.
struct Workload {
  std::vector<size_t> selected;  // places in the plan, by --only and --shard
  std::vector<Task> todo;
  std::map<CellState, int64_t> states;                // of the selected, before anything ran
  std::vector<std::pair<size_t, Problem>> damaged;    // records that cannot be trusted
  std::vector<std::optional<RecordSummary>> records;  // of the whole plan, as they were
  std::optional<Redo> redo;                           // of the tasks with Reuse::nothing
};
Workload choose_work(const Config& config, const ResultsTree& tree, RecordIndex& index,
                     const std::vector<PlanEntry>& plan, const std::optional<FrozenPlan>& frozen,
                     const Selection& selection);

// FAILURE of the kinds that make a run end with 1.
bool fails_run(const RecordSummary& record);

}  // namespace harness::plan
