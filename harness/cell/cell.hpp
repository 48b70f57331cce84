#pragma once

#include <functional>
#include <string>
#include <vector>

#include "harness/cell/fixing.hpp"
#include "harness/cell/stages.hpp"
#include "harness/measure/device.hpp"
#include "harness/measure/original.hpp"
#include "harness/plan/workload.hpp"

namespace harness::cell {

// A part of a cell's computation.
struct CellPart {
  std::string name;               // "load", "fix", "save", "predict", "attack"
  double spent = 0;               // of a fix: seconds that an interrupted run of it used up
  bool keeps_own_budget = false;  // of a fix: fix() itself ends it at its budget
};

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
  std::string redo = {};   // token of the redo that the cell belongs to (redo.hpp), else empty
  std::function<void(double, const std::string&)> progress;
  std::function<void(const CellPart&)> begin;
  // The clock of a fix has started; resident memory of this process at that moment, which is not the fix's.
  std::function<void(double megabytes)> fix_begun = {};

  bool wants_attack() const { return subject.config().attack.has_value(); }
  // Percent on the test split, below which a fixed model is corrupted.
  double min_accuracy() const { return config.corrupted_below * original.accuracy(); }
};

// Computes the stages of one cell that are not kept, and writes its folder, record.json last. Returns the
// record. The caller holds the cell's lease. Throws Interrupted (finished stages and the checkpoint stay, no
// record is written), LeaseLost (the same, and nothing of the folder is changed any more) and UserError.
Record run_cell(const CellContext& context, const plan::PlanEntry& entry, plan::Reuse reuse);

}  // namespace harness::cell
