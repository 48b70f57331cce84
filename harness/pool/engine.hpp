#pragma once

#include <cstdint>
#include <vector>

#include "harness/measure/device.hpp"
#include "harness/plan/workload.hpp"
#include "harness/pool/progress.hpp"
#include "harness/pool/run_summary.hpp"

namespace harness::pool {

struct RunOptions {
  DeviceChoice device;
  int64_t jobs = 1;     // workers on the CPU; on CUDA there is one a device
  int64_t threads = 0;  // of all workers together; 0: LibTorch's choice
};

// Runs what choose_work() found in worker processes (harness/docs/running.md). First one worker opens every
// subject and published model that is needed, so that an unusable file is found at once (UserError with all
// of them) and costs no result; after that nothing but a second signal ends the run before its time.
//
// A cell that ends without a result, for whatever reason outside of its fix, is tried again after the others.
// The second time the machine is tested (machine.hpp). Where it works, the cell's record says FAILURE
// crashed, or the cell stays missing where a file was the reason. Where it does not, the cell stays missing
// and the worker is given up.
RunSummary run_plan(const Config& config, const ResultsTree& tree, const std::vector<plan::PlanEntry>& plan,
                    const plan::Workload& work, const RunOptions& options, Progress& progress);

}  // namespace harness::pool
