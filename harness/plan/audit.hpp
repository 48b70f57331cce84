#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "harness/plan/plan.hpp"

namespace harness::plan {

// `count` places of the plan, drawn with `seed` among the cells whose `states` are finished; all of these
// where there are fewer. Sorted.
std::vector<size_t> audit_sample(const std::vector<CellState>& states, int64_t count, uint64_t seed);

// How much two computations of a cell may differ. On the CPU not at all.
struct AuditTolerance {
  double percent_points = 0;         // of metrics in percent
  double differing_predictions = 0;  // share of images
  bool exact = true;                 // counters, scalars, series and every file too
};
AuditTolerance audit_tolerance(const std::string& device_class);

// In words, what differs between the cell's folders in two trees; empty where nothing that matters does.
// Times and provenance are not compared. Throws ResultsError for a damaged record.
std::vector<std::string> audit_differences(const CellId& cell, const ResultsTree& before,
                                           const ResultsTree& again, const AuditTolerance& tolerance);

}  // namespace harness::plan
