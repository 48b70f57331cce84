#pragma once

#include <functional>
#include <string>

#include "harness/run/device.hpp"
#include "harness/run/fixing.hpp"
#include "harness/run/original.hpp"
#include "harness/run/plan.hpp"

namespace harness {

// What all cells of a subject share while they run.
struct CellContext {
  const Config& config;
  const Subject& subject;
  Original& original;
  const ResultsTree& tree;
  std::string device_name;
  double predict_original = 0;  // seconds this cell had to wait for it, else 0
  std::function<void(double, const std::string&)> progress;
};

// Runs one cell from fix to measure and writes its folder, record.json last. Returns the record. Throws
// Interrupted (nothing of the cell is written then) and UserError.
Record run_cell(const CellContext& context, const PlanEntry& entry);

// Budget of a cell: the approach's own, else the subject's, else the configuration's.
std::optional<double> budget_of(const Config& config, const PlanEntry& entry);

}  // namespace harness
