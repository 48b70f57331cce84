#pragma once

#include <functional>
#include <string>
#include <vector>

#include "harness/cell/fixing.hpp"
#include "harness/cell/stages.hpp"
#include "harness/measure/device.hpp"
#include "harness/measure/original.hpp"
#include "harness/plan/workload.hpp"

namespace harness {

// What all cells of a subject share while they run in one worker.
struct CellContext {
  const Config& config;
  const Subject& subject;
  Original& original;
  const ResultsTree& tree;
  std::string device_name;
  double predict_original = 0;  // seconds this cell had to wait for it, else 0
  int64_t workers = 1;          // that run cells at the same time
  std::string lease = {};  // token of the cell's lease (lease.hpp); empty: nobody else can be at the cell
  std::string redo = {};   // token of the redo that asked for the cell (redo.hpp), else empty
  std::function<void(double, const std::string&)> progress;
  // A part begins ("fix", "save", "predict", "attack", "measure"); `spent`: seconds of the fix before this.
  std::function<void(const std::string& part, double spent)> begin;
  // The clock of a fix has started; resident memory of this process at that moment, which is not the fix's.
  std::function<void(double megabytes)> fix_begun = {};
};

struct CellOutcome {
  Record record;
  std::vector<Stage> computed;  // the others were kept
};

// Runs what is needed of one cell's stages and writes its folder, record.json last. The caller holds the
// cell's lease. Throws Interrupted (finished stages and the checkpoint stay, nothing of the record is
// written), LeaseLost (the same, and nothing else of the folder is changed any more) and UserError.
CellOutcome run_cell(const CellContext& context, const PlanEntry& entry, Reuse reuse);

}  // namespace harness
