#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/plan/workload.hpp"

namespace harness::pool {

// What came of a run.
struct RunSummary {
  int64_t done = 0;                 // cells that got a record now
  bool interrupted = false;         // by a stop signal
  bool failed = false;              // a selected cell crashed, timed out, ran out of memory, or has no record
  std::vector<std::string> errors;  // of the machine and of cells without a result, one line each
  std::map<std::string, int64_t> statuses;  // of the selected cells now; "missing" for those without a record
  std::vector<std::pair<std::string, std::string>> failures;  // id and reason of records that make it fail
};

// Fills in `failed`, `statuses` and `failures` from the records as they are now; cells that were not to be
// computed are as they were. Ends the redo where all its cells have records of it.
void sum_up(const ResultsTree& tree, const std::vector<plan::PlanEntry>& plan, const plan::Workload& work,
            const std::optional<plan::Redo>& redo, RunSummary* summary);

}  // namespace harness::pool
