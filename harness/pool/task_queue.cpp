#include "harness/pool/task_queue.hpp"

#include <limits>
#include <map>

namespace harness::pool {
namespace {

constexpr std::chrono::seconds kLookAgain{1};
constexpr int kLast = std::numeric_limits<int>::max();  // rank of a cell that is tried again

}  // namespace

void TaskQueue::look_elsewhere(Lease::Watch* leases) {
  const auto now = std::chrono::steady_clock::now();
  if (elsewhere_.empty() || now - last_look_ < kLookAgain) return;
  last_look_ = now;
  std::deque<plan::Task> still;
  for (const plan::Task& task : elsewhere_) {
    const bool alive = leases->is_alive(tree_.cell(plan_[task.place].planned.cell));
    (alive ? still : waiting_).push_back(task);
  }
  elsewhere_ = std::move(still);
}

std::optional<plan::Task> TaskQueue::next(const Slot& slot, const std::vector<std::unique_ptr<Slot>>& slots) {
  if (waiting_.empty()) return std::nullopt;
  std::map<std::string, int> busy;
  for (const auto& other : slots) {
    if (other.get() != &slot && other->current) ++busy[subject_of(other->current->task)];
  }
  const auto rank = [&](const plan::Task& task) {
    if (task.failures > 0) return kLast;
    return subject_of(task) == slot.subject ? -1 : busy[subject_of(task)];
  };
  auto best = waiting_.begin();
  for (auto task = waiting_.begin(); task != waiting_.end() && rank(*best) >= 0; ++task) {
    if (rank(*task) < rank(*best)) best = task;
  }
  const plan::Task chosen = *best;
  waiting_.erase(best);
  return chosen;
}

}  // namespace harness::pool
