#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "harness/pool/slot.hpp"

namespace harness::pool {

// The cells that are still to be computed: those that wait here, and those that another process computes,
// which may give them up.
class TaskQueue {
 public:
  // References are kept.
  TaskQueue(const std::vector<plan::PlanEntry>& plan, const ResultsTree& tree,
            const std::vector<plan::Task>& tasks)
      : plan_(plan), tree_(tree), waiting_(tasks.begin(), tasks.end()) {}

  const std::deque<plan::Task>& waiting() const { return waiting_; }
  bool has_elsewhere() const { return !elsewhere_.empty(); }
  bool empty() const { return waiting_.empty() && elsewhere_.empty(); }

  void add(const plan::Task& task) { waiting_.push_back(task); }
  void leave_elsewhere(const plan::Task& task) { elsewhere_.push_back(task); }
  // Every second: takes back the cells that no other process computes any more.
  void look_elsewhere(Lease::Watch* leases);

  // Removes the task that `slot` should do next: one of the subject that its worker has open, else one of the
  // subject that the fewest of the other `slots` are at; last those that ended without a result before.
  std::optional<plan::Task> next(const Slot& slot, const std::vector<std::unique_ptr<Slot>>& slots);

 private:
  const std::string& subject_of(const plan::Task& task) const { return plan_[task.place].subject->name; }

  const std::vector<plan::PlanEntry>& plan_;
  const ResultsTree& tree_;
  std::deque<plan::Task> waiting_, elsewhere_;
  std::chrono::steady_clock::time_point last_look_{};
};

}  // namespace harness::pool
