#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "harness/measure/device.hpp"
#include "harness/plan/workload.hpp"
#include "harness/pool/progress.hpp"

namespace harness {

struct RunOptions {
  DeviceChoice device;
  int64_t jobs = 1;     // workers on the CPU; on CUDA there is one a device
  int64_t threads = 0;  // of all workers together; 0: LibTorch's choice
};

struct RunSummary {
  int64_t done = 0;          // cells that got a record now
  bool interrupted = false;  // by a stop signal
  bool trouble = false;      // a selected cell crashed, timed out, ran out of memory, or has no record
  std::vector<std::string> troubles;        // of the machine, one line each
  std::map<std::string, int64_t> statuses;  // of the selected cells now; "missing" for those without a record
  std::vector<std::pair<std::string, std::string>> failures;  // id and reason of those that are trouble
};

// Runs what choose_work() found in worker processes (harness/docs/running.md). First one worker opens every
// subject and published model that is needed, so that an unusable file is found at once (UserError with all
// of them) and costs no result; after that nothing but a second signal ends the run before its time. A cell
// without a result, for whatever reason outside of its fix, is tried again after the others. The second time
// the machine is looked at (machine.hpp): where it is well the cell's record says FAILURE crashed, or the
// cell stays missing where a file was the reason; where it is not, the cell stays missing and the worker is
// given up. Else tasks run in the order they are given.
RunSummary run_plan(const Config& config, const ResultsTree& tree, const std::vector<PlanEntry>& plan,
                    const Workload& work, const RunOptions& options, Progress& progress);

}  // namespace harness
