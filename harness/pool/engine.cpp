#include "harness/pool/engine.hpp"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <deque>
#include <thread>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/core/stop_signals.hpp"
#include "harness/pool/failure.hpp"
#include "harness/pool/machine.hpp"
#include "harness/pool/protocol.hpp"
#include "harness/pool/slot.hpp"

namespace harness {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr int kPollMilliseconds = 100;
constexpr int kMaxAttempts = 2;        // in a row on one device, or of one cell: one may be an accident
constexpr double kCheckSeconds = 120;  // in which a device answers
constexpr int kLast = 1 << 20;         // rank of a cell that is tried again
constexpr double kGraceSeconds = 10;   // beyond a budget, plus a share of it, before a fix is killed
constexpr double kGraceShare = 0.1;
constexpr double kMemoryGraceSeconds = 5;  // over the limit; far over it is killed at once
constexpr double kFarOver = 1.25;
constexpr std::chrono::seconds kLookAgain{1};  // at cells that another process computes

class Engine {
 public:
  Engine(const Config& config, const ResultsTree& tree, const std::vector<PlanEntry>& plan,
         const Workload& work, const RunOptions& options, Progress& progress)
      : config_(config),
        tree_(tree),
        plan_(plan),
        work_(work),
        progress_(progress),
        redo_(work.redo),
        slots_(make_slots(config, tree, options, work.todo.size())),
        todo_(work.todo.begin(), work.todo.end()) {}

  RunSummary run() {
    ::signal(SIGPIPE, SIG_IGN);
    sweep();
    double expected = 0;
    for (const Task& task : todo_) expected += task.expected;
    progress_.expect(static_cast<int64_t>(todo_.size()), expected / static_cast<double>(slots_.size()));
    if (!todo_.empty()) {
      probe();
      begin_redo();
      while (!is_over()) turn();
      sweep();  // what has not changed since the start
    }
    summary_.interrupted = stop_signals() > 0 || interrupted_;
    if (!summary_.interrupted) say_what_is_left();
    sum_up();
    return std::move(summary_);
  }

 private:
  const PlanEntry& entry_of(const Task& task) const { return plan_[task.place]; }
  const std::string id_of(const Task& task) const { return entry_of(task).planned.cell.text(); }
  std::filesystem::path folder_of(const Task& task) const { return tree_.cell(entry_of(task).planned.cell); }

  void note(const std::string& line) {
    summary_.troubles.push_back(line);
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
    return todo_.empty() && elsewhere_.empty() && !is_checking();
  }

  void sweep() {
    for (const size_t place : work_.selected) leases_.sweep(tree_.cell(plan_[place].planned.cell));
  }

  void begin_redo() {
    const bool any = std::any_of(todo_.begin(), todo_.end(),
                                 [](const Task& task) { return task.reuse == Reuse::nothing; });
    if (!redo_ || !any || stop_signals() > 0) return;
    if (redo_->begun) {
      progress_.say("goes on with the redo that was begun before (to begin anew, remove " +
                    redo_->file.string() + ")");
    }
    try {
      harness::begin(&*redo_);
    } catch (const UserError& error) {
      for (const auto& slot : slots_) give_up(*slot, error.what());
    }
  }

  // Opens everything once, in the first worker, before any cell runs.
  void probe() {
    json entries = json::array();
    std::set<std::string> seen;
    for (const Task& task : todo_) {
      const PlanEntry& entry = entry_of(task);
      if (seen.insert(entry.subject->name + "\n" + entry.published.string()).second) {
        entries.push_back(to_json(config_, entry));
      }
    }
    Slot& slot = *slots_.front();
    slot.start();
    slot.process()->send({{"do", "probe"}, {"entries", entries}});
    while (!probed_ && stop_signals() < 2) {
      wait_for_replies();
      bool closed = false;
      for (const json& message : slot.process()->receive(&closed)) take(slot, message);
      if (slot.process() == nullptr) break;
      if (closed && !probed_) give_up(slot, "the worker ended by " + to_text(slot.process()->wait()));
    }
  }

  // A device that cannot even open the subjects, or a machine that is not well. What was to be done there is
  // left to other slots, while there are any.
  void give_up(Slot& slot, const std::string& why) {
    note("stopped, as this machine is in trouble: " + why);
    if (slot.check) todo_.push_back(slot.check->failed.task);
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
      for (const json& message : slot->process()->receive(&closed)) {
        if (is_same()) take(*slot, message);  // what follows an error is of no worker any more
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

  // The first signal asks every worker to come to a good end, the second one ends them.
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
    look_elsewhere();
    for (const auto& slot : slots_) {
      while (slot->is_free()) {
        std::optional<Task> task = next_for(*slot);
        if (!task) break;
        begin(*slot, *task);
      }
    }
  }

  // A cell of the subject that the worker has open; else of the subject that fewest workers are at.
  std::optional<Task> next_for(const Slot& slot) {
    if (todo_.empty()) return std::nullopt;
    std::map<std::string, int> busy;
    for (const auto& other : slots_) {
      if (other.get() != &slot && other->current) ++busy[entry_of(other->current->task).subject->name];
    }
    const auto rank = [&](const Task& task) {
      if (task.troubles > 0) return kLast;
      const std::string& subject = entry_of(task).subject->name;
      return subject == slot.subject ? -1 : busy[subject];
    };
    auto best = todo_.begin();
    for (auto task = todo_.begin(); task != todo_.end() && rank(*best) >= 0; ++task) {
      if (rank(*task) < rank(*best)) best = task;
    }
    const Task chosen = *best;
    todo_.erase(best);
    return chosen;
  }

  void begin(Slot& slot, const Task& task) {
    Slot::Current current;
    current.task = task;
    try {
      current.lease = Lease::take(folder_of(task), leases_);
      if (!current.lease) {
        if (elsewhere_.empty()) progress_.say("another process computes " + id_of(task) + ": left to it");
        elsewhere_.push_back(task);
        return;
      }
      if (is_done(task)) {  // meanwhile another process may have been here
        finish_elsewhere(task);
        return;
      }
      set_aside_damage(task);
      if (slot.process() == nullptr) slot.start();
    } catch (const UserError& error) {
      trouble(slot, std::move(current), std::string("crashed: ") + error.what(), true);
      return;
    }
    slot.subject = entry_of(task).subject->name;
    current.oom_kills = out_of_memory_kills();
    slot.process()->send({{"do", "cell"},
                          {"entry", to_json(config_, entry_of(task))},
                          {"reuse", to_text(task.reuse)},
                          {"lease", current.lease->token()},
                          {"redo", redo_ ? redo_->token : ""}});
    slot.current = std::move(current);
    progress_.begin(slot.index(), id_of(task));
  }

  bool is_done(const Task& task) const {
    if (task.reuse == Reuse::retry) return false;
    const PlannedCell& planned = entry_of(task).planned;
    const std::optional<Record> record = tree_.look(planned.cell).record;
    if (state_of(planned, record, Compare::exact) != CellState::finished) return false;
    return task.reuse == Reuse::everything || (redo_ && redo_of(record) == redo_->token);
  }

  void finish_elsewhere(const Task& task) {
    progress_.end(-1, {id_of(task), "done", "by another process", 0, false}, task.expected);
  }

  // What is no record of this cell stays to be looked at, under another name.
  void set_aside_damage(const Task& task) const {
    const CellId& cell = entry_of(task).planned.cell;
    if (!tree_.look(cell).damage) return;
    std::error_code ignored;
    std::filesystem::rename(tree_.record(cell), folder_of(task) / "record.damaged", ignored);
  }

  void look_elsewhere() {
    if (elsewhere_.empty() || Clock::now() - last_look_ < kLookAgain) return;
    last_look_ = Clock::now();
    std::deque<Task> still;
    for (const Task& task : elsewhere_) {
      if (leases_.is_alive(folder_of(task))) {
        still.push_back(task);
      } else {
        todo_.push_back(task);
      }
    }
    elsewhere_ = std::move(still);
  }

  void take(Slot& slot, const json& message) {
    if (message.contains("ready")) {
      slot.device_name = message["ready"]["device"];
    } else if (message.contains("probed")) {
      probed_ = true;
      throw_if_any(problems_of(message["probed"]["problems"]));
    } else if (message.contains("refused") && !probed_) {
      throw_if_any(problems_of(message["refused"]["problems"]));
    } else if (message.contains("refused")) {  // by a worker that was started again
      take_failure(slot, to_text(problems_of(message["refused"]["problems"]).at(0)), true);
    } else if (message.contains("failed")) {
      take_failure(slot, message["failed"]["why"], message["failed"]["of_file"]);
    } else if (message.contains("well")) {
      if (slot.check) conclude(slot);
    } else if (slot.current) {
      take_of_cell(slot, message);
    }
  }

  void take_failure(Slot& slot, const std::string& why, bool of_file) {
    if (!slot.current) {
      give_up(slot, why);
      return;
    }
    Slot::Current failed = std::move(*slot.current);
    slot.current.reset();
    const std::string reason = "crashed: " + why + (of_file ? "" : ", in " + failed.part);
    trouble(slot, std::move(failed), reason, of_file);
  }

  void take_of_cell(Slot& slot, const json& message) {
    Slot::Current& current = *slot.current;
    if (message.contains("part")) {
      current.part = message["part"]["name"];
      current.spent = message["part"]["spent"];
      current.part_start = Clock::now();
      progress_.part(slot.index(), current.part);
    } else if (message.contains("fix_begun")) {
      current.resident_before = message["fix_begun"]["resident"];
    } else if (message.contains("progress")) {
      progress_.portion(slot.index(), message["progress"]["done"], message["progress"]["what"]);
    } else if (message.contains("finished")) {
      const json& end = message["finished"];
      slot.failures_in_a_row = 0;
      ++summary_.done;
      progress_.end(slot.index(),
                    {id_of(current.task), end["status"], end["reason"], end["seconds"], end["mistrusted"]},
                    current.task.expected);
      slot.current.reset();
    } else if (message.contains("lost")) {
      leave(slot, std::exchange(slot.current, std::nullopt)->task);
    } else if (message.contains("interrupted")) {
      interrupted_ = true;
      progress_.idle(slot.index());
      slot.current.reset();
    }
  }

  // To the process that has taken the cell over.
  void leave(Slot& slot, const Task& task) {
    progress_.idle(slot.index());
    elsewhere_.push_back(task);
  }

  // A cell ended without a result, and it is not known whether that is its own doing: an error outside of the
  // fix, or of the device. It is tried again after all others. Where that was its second time, or another
  // cell ended like that just before, the machine has to show that it is well.
  void trouble(Slot& slot, Slot::Current failed, const std::string& reason, bool of_file) {
    slot.stop();                               // a device that had an error serves this process no more
    if (stop_signals() > 0 || interrupted_) {  // the next run will see
      progress_.idle(slot.index());
      return;
    }
    const bool again = ++failed.task.troubles >= kMaxAttempts;
    const bool in_a_row = ++slot.failures_in_a_row >= kMaxAttempts;
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
      slot.process()->send({{"do", "check"}});
    } catch (const UserError& error) {
      give_up(slot, error.what());
    }
  }

  void try_later(const Task& task) {
    progress_.say(id_of(task) + " is tried again after the others: " + text_of(reasons_[task.place]));
    todo_.push_back(task);
  }

  static std::string text_of(const std::string& reason) {  // without its code
    return reason.substr(reason.find(": ") + 2);
  }

  // The machine is well.
  void conclude(Slot& slot) {
    Slot::Check check = std::move(*slot.check);
    slot.check.reset();
    slot.failures_in_a_row = 0;
    const Task& task = check.failed.task;
    if (task.troubles < kMaxAttempts) {
      try_later(task);
    } else if (check.of_file) {
      no_result(task, text_of(check.reason));
    } else {
      fail(slot, check.failed, check.reason);
    }
  }

  void no_result(const Task& task, const std::string& why) {
    reasons_.erase(task.place);
    progress_.end(-1, {id_of(task), "", why, 0, false}, task.expected);
    summary_.troubles.push_back(id_of(task) + " no result: " + why);
  }

  void say_what_is_left() {
    for (const Task& task : todo_) {
      const auto reason = reasons_.find(task.place);
      if (reason != reasons_.end()) no_result(task, text_of(reason->second));
    }
  }

  // The cell's result is a FAILURE.
  void fail(Slot& slot, const Slot::Current& cell, const std::string& reason) {
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
    const double seconds = std::chrono::duration<double>(Clock::now() - cell.start).count();
    progress_.end(slot.index(), {id_of(cell.task), to_text(Status::failure), reason, seconds, false},
                  cell.task.expected);
  }

  // The worker is gone.
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
      reason += ", in " + current.part;
    }
    if (current.part != "fix") {  // a death outside the fix is no result of the approach
      trouble(slot, std::move(current), reason, false);
      return;
    }
    slot.failures_in_a_row = 0;
    fail(slot, current, reason);
  }

  static void keep_alive(Slot::Current& cell) {
    const Clock::time_point now = Clock::now();
    if (!cell.lease || std::chrono::duration<double>(now - cell.last_beat).count() <= Lease::kBeatSeconds)
      return;
    cell.last_beat = now;
    cell.lease->beat();
  }

  void watch_check(Slot& slot) {
    keep_alive(slot.check->failed);
    const double seconds = std::chrono::duration<double>(Clock::now() - slot.check->start).count();
    if (seconds > kCheckSeconds) give_up(slot, "the device does not answer");
  }

  // Heartbeat, and the budgets of a fix that does not keep them itself.
  void watch(Slot& slot) {
    Slot::Current& current = *slot.current;
    const Clock::time_point now = Clock::now();
    keep_alive(current);
    if (current.part != "fix" || !current.killed_for.empty()) return;
    const PlanEntry& entry = entry_of(current.task);
    // an external program's budget is kept by its worker, which may first have much data to copy for it
    if (entry.approach != nullptr && entry.approach->external) return;
    const Budget budget = budget_of(config_, entry);
    if (budget.seconds) {
      const double limit = *budget.seconds * (1 + kGraceShare) + kGraceSeconds;
      if (current.spent + current.seconds_in_part() > limit) {
        end_fix(slot, "timeout: no fix within " + format_number(*budget.seconds) +
                          " s, and it did not stop by itself");
        return;
      }
    }
    if (budget.megabytes) {
      if (current.resident_before == 0) return;  // the fix has not begun: what there is, is not its own
      const double growth = slot.process()->resident_megabytes() - current.resident_before;
      if (growth <= *budget.megabytes) {
        current.over_memory_since = {};
        return;
      }
      if (current.over_memory_since == Clock::time_point{}) current.over_memory_since = now;
      const double over = std::chrono::duration<double>(now - current.over_memory_since).count();
      if (over < kMemoryGraceSeconds && growth < kFarOver * *budget.megabytes) return;
      end_fix(slot, "out_of_memory: grew by " + std::to_string(std::lround(growth)) + " MB where " +
                        format_number(*budget.megabytes) + " MB are allowed");
    }
  }

  static void end_fix(Slot& slot, const std::string& reason) {
    slot.current->killed_for = reason;
    slot.process()->signal(SIGKILL);
  }

  // How the selected cells stand at the end. Those that were not run stand as before.
  void sum_up() {
    std::map<size_t, std::optional<RecordSummary>> ran;
    bool redone = true;
    for (const Task& task : work_.todo) {
      const PlannedCell& planned = entry_of(task).planned;
      const std::optional<Record> record = tree_.look(planned.cell).record;
      const CellState state = state_of(planned, record, Compare::exact);
      const bool counts = state == CellState::finished || state == CellState::stale;
      ran[task.place] = counts ? std::optional(summary_of(*record)) : std::nullopt;
      if (task.reuse != Reuse::nothing || (redo_ && redo_of(record) == redo_->token)) continue;
      redone = false;
      summary_.trouble = summary_.trouble || !summary_.interrupted;
    }
    if (redo_ && redone && !summary_.interrupted) end(*redo_);
    for (const size_t place : work_.selected) {
      const auto found = ran.find(place);
      const std::optional<RecordSummary>& record = found != ran.end() ? found->second : work_.records[place];
      ++summary_.statuses[record ? to_text(record->status) : "missing"];
      if (record && !fails_run(*record)) continue;
      summary_.trouble = true;
      if (record) summary_.failures.emplace_back(plan_[place].planned.cell.text(), record->reason);
    }
  }

  const Config& config_;
  const ResultsTree& tree_;
  const std::vector<PlanEntry>& plan_;
  const Workload& work_;
  Progress& progress_;
  std::optional<Redo> redo_;
  Lease::Watch leases_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::deque<Task> todo_, elsewhere_;
  Clock::time_point last_look_{};
  std::map<size_t, std::string> reasons_;  // of cells without a result so far, by their place
  RunSummary summary_;
  int forwarded_ = 0;
  bool probed_ = false, interrupted_ = false;
};

}  // namespace

RunSummary run_plan(const Config& config, const ResultsTree& tree, const std::vector<PlanEntry>& plan,
                    const Workload& work, const RunOptions& options, Progress& progress) {
  return Engine(config, tree, plan, work, options, progress).run();
}

}  // namespace harness
