#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "harness/run/device.hpp"
#include "harness/run/plan.hpp"
#include "harness/run/selection.hpp"

namespace harness {

// What there is to do: places in the plan, selected and neither finished nor kept.
struct Workload {
  std::vector<size_t> selected;  // by --only and --shard
  std::vector<size_t> todo;
  std::map<CellState, int64_t> states;  // of the selected, before anything ran
};
Workload choose_work(const Config& config, const ResultsTree& tree, const std::vector<PlanEntry>& plan,
                     const Selection& selection);

struct RunSummary {
  int64_t done = 0;          // cells computed now
  bool interrupted = false;  // by a stop signal
  bool trouble = false;      // a selected cell crashed, timed out, ran out of memory, or has no record
  std::vector<std::string> troubles;  // of the machine, one line each; `say` got them too
};

// Runs what choose_work() found, one cell after the other, subject by subject; `say` gets lines for people.
// Opens every subject and published model that is needed before the first cell, so that an unusable file is
// found at once (UserError with all of them) and costs no result. Trouble of the machine (device, driver,
// disk) is no status: that cell stays missing, and two of them in a row end the run.
RunSummary run_plan(const Config& config, const ResultsTree& tree, const std::vector<PlanEntry>& plan,
                    const Selection& selection, const DeviceChoice& device,
                    const std::function<void(const std::string&)>& say);

}  // namespace harness
