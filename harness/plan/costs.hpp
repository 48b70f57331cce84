#pragma once

#include <optional>
#include <string>
#include <vector>

#include "harness/plan/plan.hpp"
#include "harness/store/record_index.hpp"

namespace harness::plan {

// What a cell is expected to take, from the records there are.
struct Cost {
  std::optional<double> seconds;
  // where from: "its own record", "other runs of it", "the approach on other subjects", "the other cells";
  // empty without seconds
  std::string source;
};

// One for each cell of `plan`; `records` lie beside it (nullopt: none).
std::vector<Cost> expected_costs(const std::vector<PlanEntry>& plan,
                                 const std::vector<std::optional<RecordSummary>>& records);

}  // namespace harness::plan
