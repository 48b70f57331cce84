#include "harness/pool/engine.hpp"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <csignal>

#include "harness/core/clock.hpp"
#include "harness/core/error.hpp"
#include "harness/core/stop_signals.hpp"
#include "harness/pool/failure.hpp"
#include "harness/pool/machine.hpp"
#include "harness/pool/protocol.hpp"
#include "harness/pool/slot.hpp"
#include "harness/pool/supervision.hpp"
#include "harness/pool/task_queue.hpp"

namespace harness::pool {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPollMilliseconds = 100;
constexpr int kMaxFailures = 2;        // in a row on one device, or of one cell: one may be an accident
constexpr double kCheckSeconds = 120;  // in which a device answers

class Engine {
 public:
  Engine(const Config& config, const ResultsTree& tree, const std::vector<plan::PlanEntry>& plan,
         const plan::Workload& work, const RunOptions& options, Progress& progress)
      : config_(config),
        tree_(tree),
        plan_(plan),
        work_(work),
        progress_(progress),
        redo_(work.redo),
        slots_(make_slots(config, tree, options, work.todo.size())),
        queue_(plan, tree, work.todo) {}

  RunSummary run() {
    ::signal(SIGPIPE, SIG_IGN);
    sweep();
    double expected = 0;
    for (const plan::Task& task : work_.todo) expected += task.expected;
    progress_.expect(static_cast<int64_t>(work_.todo.size()), expected / static_cast<double>(slots_.size()));
    if (!work_.todo.empty()) {
      probe();
      begin_redo();
      while (!is_over()) turn();
      sweep();  // what has not changed since the start
    }
    summary_.interrupted = stop_signals() > 0 || interrupted_;
    if (!summary_.interrupted) say_what_is_left();
    sum_up(tree_, plan_, work_, redo_, &summary_);
    return std::move(summary_);
  }

 private:
  const plan::PlanEntry& entry_of(const plan::Task& task) const { return plan_[task.place]; }
  std::string id_of(const plan::Task& task) const { return entry_of(task).planned.cell.text(); }
  std::filesystem::path folder_of(const plan::Task& task) const {
    return tree_.cell(entry_of(task).planned.cell);
  }

  void note(const std::string& line) {
    summary_.errors.push_back(line);
    progress_.say(line);
  }

  bool is_running() const {
    return std::any_of(slots_.begin(), slots_.end(),
                       [](const auto& slot) { return slot->current.has_value(); });
  }
  bool is_checking() const {
    return std::any_of(slots_.begin(), slots_.end(),
                       [](const auto& slot) { return slot->check.has_value(); });
  }
  bool all_retired() const {
    return std::all_of(slots_.begin(), slots_.end(), [](const auto& slot) { return slot->retired; });
  }
  bool is_over() const {
    if (is_running()) return false;
    if (stop_signals() > 0 || interrupted_ || all_retired()) return true;
    return queue_.empty() && !is_checking();
  }

  void sweep() {
    for (const size_t place : work_.selected) leases_.sweep(tree_.cell(plan_[place].planned.cell));
  }

  void begin_redo() {
    const bool any = std::any_of(work_.todo.begin(), work_.todo.end(),
                                 [](const plan::Task& task) { return task.reuse == plan::Reuse::nothing; });
    if (!redo_ || !any || stop_signals() > 0) return;
    if (redo_->begun) {
      progress_.say("goes on with the redo that was begun before (to begin anew, remove " +
                    redo_->file.string() + ")");
    }
    try {
      plan::begin(&*redo_);
    } catch (const UserError& error) {
      for (const auto& slot : slots_) give_up(*slot, error.what());
    }
  }

  // Opens everything once, in the first worker, before any cell runs.
  void probe() {
    ProbeEntries request;
    std::set<std::string> seen;
    for (const plan::Task& task : work_.todo) {
      const plan::PlanEntry& entry = entry_of(task);
      if (seen.insert(entry.subject->name + "\n" + entry.published.string()).second) {
        request.entries.push_back(cell_entry(config_, entry));
      }
    }
    Slot& slot = *slots_.front();
    slot.start();
    slot.process()->send(request);
    while (!probed_ && stop_signals() < 2) {
      wait_for_replies();
      bool closed = false;
      for (const Reply& reply : slot.process()->receive(&closed)) take(slot, reply);
      if (slot.process() == nullptr) break;
      if (closed && !probed_) give_up(slot, "the worker ended by " + to_text(slot.process()->wait()));
    }
  }

  // For a device that cannot even open the subjects, or a machine that does not work. What was to be done
  // there is left to other slots, while there are any.
  void give_up(Slot& slot, const std::string& why) {
    note("stopped, as this machine does not work: " + why);
    if (slot.check) queue_.add(slot.check->failed.task);
    slot.check.reset();
    slot.stop();
    slot.retired = probed_ = true;
  }

  void turn() {
    forward_stop();
    assign();
    wait_for_replies();
    for (const auto& slot : slots_) {
      if (slot->process() == nullptr) continue;
      const pid_t process = slot->process()->pid();
      const auto is_same = [&] { return slot->process() != nullptr && slot->process()->pid() == process; };
      bool closed = false;
      for (const Reply& reply : slot->process()->receive(&closed)) {
        if (is_same()) take(*slot, reply);  // what follows an error is of no worker any more
      }
      if (closed && is_same()) reap(*slot);
      if (slot->current) watch(*slot);
      if (slot->check) watch_check(*slot);
    }
    progress_.tick();
  }

  void wait_for_replies() const {
    std::vector<pollfd> descriptors;
    for (const auto& slot : slots_) {
      if (slot->process() != nullptr) descriptors.push_back({slot->process()->replies(), POLLIN, 0});
    }
    ::poll(descriptors.data(), descriptors.size(), kPollMilliseconds);
  }

  // The first signal makes every worker stop at its next good place, the second one ends them.
  void forward_stop() {
    const int now = std::max(stop_signals(), interrupted_ ? 1 : 0);  // or somebody stopped one worker
    if (now == forwarded_) return;
    for (const auto& slot : slots_) {
      if (slot->process() != nullptr) slot->process()->signal(now > 1 ? SIGKILL : SIGTERM);
    }
    if (forwarded_ == 0) progress_.say("stopping at the next good place; a second signal ends at once");
    forwarded_ = now;
  }

  void assign() {
    if (stop_signals() > 0 || interrupted_) return;
    queue_.look_elsewhere(&leases_);
    for (const auto& slot : slots_) {
      while (slot->is_free()) {
        const std::optional<plan::Task> task = queue_.next(*slot, slots_);
        if (!task) break;
        begin(*slot, *task);
      }
    }
  }

  void begin(Slot& slot, const plan::Task& task) {
    Slot::Current current;
    current.task = task;
    try {
      current.lease = Lease::take(folder_of(task), leases_);
      if (!current.lease) {
        if (!queue_.has_elsewhere()) {
          progress_.say("another process computes " + id_of(task) + ": left to it");
        }
        queue_.leave_elsewhere(task);
        return;
      }
      if (is_done(task)) {  // meanwhile another process may have been here
        finish_elsewhere(task);
        return;
      }
      set_aside_damage(task);
      if (slot.process() == nullptr) slot.start();
    } catch (const UserError& error) {
      end_without_result(slot, std::move(current), std::string("crashed: ") + error.what(), true);
      return;
    }
    slot.subject = entry_of(task).subject->name;
    current.oom_kills = out_of_memory_kills();
    slot.process()->send(ComputeCell{.entry = cell_entry(config_, entry_of(task)),
                                     .reuse = task.reuse,
                                     .lease = current.lease->token(),
                                     .redo = redo_ ? redo_->token : ""});
    slot.current = std::move(current);
    progress_.begin(slot.index(), id_of(task));
  }

  bool is_done(const plan::Task& task) const {
    if (task.reuse == plan::Reuse::retry) return false;
    const PlannedCell& planned = entry_of(task).planned;
    const std::optional<Record> record = tree_.look(planned.cell).record;
    if (state_of(planned, record, Compare::exact) != CellState::finished) return false;
    return task.reuse == plan::Reuse::everything || (redo_ && plan::redo_of(record) == redo_->token);
  }

  void finish_elsewhere(const plan::Task& task) {
    progress_.end(-1, {id_of(task), "done", "by another process", 0, false}, task.expected);
  }

  // What is no record of this cell stays to be looked at, under another name.
  void set_aside_damage(const plan::Task& task) const {
    const CellId& cell = entry_of(task).planned.cell;
    if (!tree_.look(cell).damage) return;
    std::error_code ignored;
    std::filesystem::rename(tree_.record(cell), folder_of(task) / "record.damaged", ignored);
  }

  // Each kind of reply has its own handle().
  void take(Slot& slot, const Reply& reply) {
    std::visit([&](const auto& message) { handle(slot, message); }, reply);
  }
  void handle(Slot& slot, const WorkerReady& ready) { slot.device_name = ready.device; }
  void handle(Slot&, const EntriesProbed& probed) {
    probed_ = true;
    throw_if_any(probed.problems);
  }
  void handle(Slot& slot, const RequestRefused& refused) {
    if (!probed_) throw_if_any(refused.problems);
    handle(slot, RequestFailed{to_text(refused.problems.at(0)), true});  // by a worker that was started again
  }
  void handle(Slot& slot, const RequestFailed& failed) {
    if (!slot.current) {
      give_up(slot, failed.why);
      return;
    }
    Slot::Current cell = std::move(*slot.current);
    slot.current.reset();
    const std::string reason = "crashed: " + failed.why + (failed.of_file ? "" : ", in " + cell.part.name);
    end_without_result(slot, std::move(cell), reason, failed.of_file);
  }
  void handle(Slot& slot, const DeviceWorks&) {
    if (slot.check) conclude_check(slot);
  }
  // All others are of the cell that runs.
  template <typename OfCell>
  void handle(Slot& slot, const OfCell& message) {
    if (slot.current) handle_of_cell(slot, *slot.current, message);
  }

  void handle_of_cell(Slot& slot, Slot::Current& cell, const PartBegun& part) {
    cell.part = part;
    cell.part_start = Clock::now();
    progress_.part(slot.index(), part.name);
  }
  void handle_of_cell(Slot&, Slot::Current& cell, const FixBegun& fix) {
    cell.resident_before = fix.resident_megabytes;
  }
  void handle_of_cell(Slot& slot, Slot::Current&, const CellProgress& progress) {
    progress_.portion(slot.index(), progress.done, progress.what);
  }
  void handle_of_cell(Slot& slot, Slot::Current& cell, const CellFinished& end) {
    slot.failures_in_a_row = 0;
    ++summary_.done;
    progress_.end(slot.index(),
                  {id_of(cell.task), to_text(end.status), end.reason, end.seconds, end.mistrusted},
                  cell.task.expected);
    slot.current.reset();
  }
  void handle_of_cell(Slot& slot, Slot::Current& cell, const CellLost&) {
    leave(slot, cell.task);
    slot.current.reset();
  }
  void handle_of_cell(Slot& slot, Slot::Current&, const CellInterrupted&) {
    interrupted_ = true;
    progress_.idle(slot.index());
    slot.current.reset();
  }

  // To the process that has taken the cell over.
  void leave(Slot& slot, const plan::Task& task) {
    progress_.idle(slot.index());
    queue_.leave_elsewhere(task);
  }

  // A cell ended without a result, and it is not known whether that is its own doing: by an error outside of
  // the fix, or of the device. It is tried again after all others. Where that was its second time, or another
  // cell ended like that just before, the machine has to show that it works.
  void end_without_result(Slot& slot, Slot::Current failed, const std::string& reason, bool of_file) {
    slot.stop();                               // a device that had an error serves this process no more
    if (stop_signals() > 0 || interrupted_) {  // the next run will see
      progress_.idle(slot.index());
      return;
    }
    const bool again = ++failed.task.failures >= kMaxFailures;
    const bool in_a_row = ++slot.failures_in_a_row >= kMaxFailures;
    reasons_[failed.task.place] = reason;
    progress_.idle(slot.index());
    if (!again && !in_a_row) {
      try_later(failed.task);
      return;
    }
    slot.check.emplace(Slot::Check{std::move(failed), reason, of_file});
    if (const std::string disk = disk_error(tree_.root()); !disk.empty()) {
      give_up(slot, disk);
      return;
    }
    try {
      slot.start();
      slot.process()->send(CheckDevice{});
    } catch (const UserError& error) {
      give_up(slot, error.what());
    }
  }

  void try_later(const plan::Task& task) {
    progress_.say(id_of(task) + " is tried again after the others: " + text_of(reasons_[task.place]));
    queue_.add(task);
  }

  static std::string text_of(const std::string& reason) {  // without its code
    return reason.substr(reason.find(": ") + 2);
  }

  // The machine works, so the cell was the reason.
  void conclude_check(Slot& slot) {
    Slot::Check check = std::move(*slot.check);
    slot.check.reset();
    slot.failures_in_a_row = 0;
    const plan::Task& task = check.failed.task;
    if (task.failures < kMaxFailures) {
      try_later(task);
    } else if (check.of_file) {
      no_result(task, text_of(check.reason));
    } else {
      record_failure(slot, check.failed, check.reason);
    }
  }

  void no_result(const plan::Task& task, const std::string& why) {
    reasons_.erase(task.place);
    progress_.end(-1, {id_of(task), "", why, 0, false}, task.expected);
    summary_.errors.push_back(id_of(task) + " no result: " + why);
  }

  void say_what_is_left() {
    for (const plan::Task& task : queue_.waiting()) {
      const auto reason = reasons_.find(task.place);
      if (reason != reasons_.end()) no_result(task, text_of(reason->second));
    }
  }

  // The cell's result is a FAILURE.
  void record_failure(Slot& slot, const Slot::Current& cell, const std::string& reason) {
    try {
      write_failure(config_, tree_, entry_of(cell.task), slot, cell, reason, redo_);
    } catch (const LeaseLost&) {
      leave(slot, cell.task);
      return;
    } catch (const UserError& error) {
      no_result(cell.task, error.what());
      return;
    }
    ++summary_.done;
    const double seconds = seconds_since(cell.start);
    progress_.end(slot.index(), {id_of(cell.task), to_text(Status::failure), reason, seconds, false},
                  cell.task.expected);
  }

  // The worker has ended.
  void reap(Slot& slot) {
    const ProcessEnd end = slot.process()->wait();
    slot.stop();
    if (slot.check) give_up(slot, "the worker ended by " + to_text(end));
    if (!slot.current) return;
    Slot::Current current = std::move(*slot.current);
    slot.current.reset();
    if (stop_signals() > 0) {  // we ended it, or the same signal did
      progress_.idle(slot.index());
      return;
    }
    const bool starved = end.signal == SIGKILL && out_of_memory_kills() > current.oom_kills;
    std::string reason = current.killed_for;
    if (reason.empty()) {
      reason = starved ? "out_of_memory: the kernel ended the worker, " + to_text(end)
                       : "crashed: the worker ended by " + to_text(end);
      reason += ", in " + current.part.name;
    }
    if (current.part.name != "fix") {  // a death outside the fix is no result of the approach
      end_without_result(slot, std::move(current), reason, false);
      return;
    }
    slot.failures_in_a_row = 0;
    record_failure(slot, current, reason);
  }

  void watch(Slot& slot) {
    Slot::Current& cell = *slot.current;
    keep_alive(&cell);
    if (!cell.killed_for.empty()) return;
    cell.killed_for = why_over_budget(&cell, plan::budget_of(config_, entry_of(cell.task)), *slot.process());
    if (!cell.killed_for.empty()) slot.process()->signal(SIGKILL);
  }

  void watch_check(Slot& slot) {
    keep_alive(&slot.check->failed);
    const double seconds = seconds_since(slot.check->start);
    if (seconds > kCheckSeconds) give_up(slot, "the device does not answer");
  }

  const Config& config_;
  const ResultsTree& tree_;
  const std::vector<plan::PlanEntry>& plan_;
  const plan::Workload& work_;
  Progress& progress_;
  std::optional<plan::Redo> redo_;
  Lease::Watch leases_;
  std::vector<std::unique_ptr<Slot>> slots_;
  TaskQueue queue_;
  std::map<size_t, std::string> reasons_;  // of cells without a result so far, by their place
  RunSummary summary_;
  int forwarded_ = 0;
  bool probed_ = false, interrupted_ = false;
};

}  // namespace

RunSummary run_plan(const Config& config, const ResultsTree& tree, const std::vector<plan::PlanEntry>& plan,
                    const plan::Workload& work, const RunOptions& options, Progress& progress) {
  return Engine(config, tree, plan, work, options, progress).run();
}

}  // namespace harness::pool
