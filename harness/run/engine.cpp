#include "harness/run/engine.hpp"

#include <chrono>
#include <cstdio>
#include <memory>

#include "harness/core/files.hpp"
#include "harness/run/cell.hpp"
#include "harness/run/stop.hpp"

namespace harness {
namespace {

std::string code_of(const Record& record) {
  return record.reason.substr(0, record.reason.find(':'));
}

// A timeout is no answer once the budget grew (DESIGN 7).
bool outgrown(const Config& config, const PlanEntry& entry, const Record& record) {
  if (record.status != Status::failure || code_of(record) != "timeout") return false;
  const auto budget = budget_of(config, entry);
  const nlohmann::json before = record.provenance.value("budget_seconds", nlohmann::json());
  if (!before.is_number()) return false;
  return !budget || *budget > before.get<double>();
}

bool is_wanted(const Config& config, const PlanEntry& entry, CellState state,
               const std::optional<Record>& record, const Selection& selection) {
  if (state == CellState::missing || state == CellState::outdated) return true;
  if (selection.redo && matches(*selection.redo, entry.planned.cell.text())) return true;
  if (record->status == Status::failure && selection.retry.count(code_of(*record)) > 0) return true;
  return outgrown(config, entry, *record);
}

bool is_trouble(const std::optional<Record>& record) {
  static const std::set<std::string> codes = {"crashed", "timeout", "out_of_memory"};
  return !record || (record->status == Status::failure && codes.count(code_of(*record)) > 0);
}

// Cells in a row that this machine may fail: one may be an accident, two are none (DESIGN 2).
constexpr int kMostTroubles = 2;

// The subject that is open.
struct Opened {
  std::unique_ptr<Subject> subject;
  std::string name;
};

class Engine {
 public:
  Engine(const Config& config, const ResultsTree& tree, const std::vector<PlanEntry>& plan,
         const DeviceChoice& device, const std::function<void(const std::string&)>& say)
      : config_(config), tree_(tree), plan_(plan), device_(device), say_(say) {}

  RunSummary run(const Workload& work) {
    RunSummary summary;
    try {
      open_everything(work);
      int in_a_row = 0;
      for (size_t i = 0; i < work.todo.size(); ++i) {
        throw_if_stopped();
        const bool done = run_one(plan_[work.todo[i]],
                                  "[" + std::to_string(i + 1) + "/" + std::to_string(work.todo.size()) + "] ",
                                  &summary.troubles);
        summary.done += done;
        in_a_row = done ? 0 : in_a_row + 1;
        if (in_a_row == kMostTroubles) {
          note("stopped: no result for " + std::to_string(in_a_row) + " cells in a row", &summary.troubles);
          break;
        }
      }
    } catch (const Interrupted&) {
      summary.interrupted = true;
    } catch (const std::exception& error) {
      if (!is_machine_trouble(error)) throw;
      note("stopped, as this machine is in trouble: " + one_line(error), &summary.troubles);
    }
    for (const size_t place : work.selected) {
      summary.trouble = summary.trouble || is_trouble(tree_.read(plan_[place].planned.cell));
    }
    return summary;
  }

 private:
  void note(const std::string& line, std::vector<std::string>* troubles) {
    troubles->push_back(line);
    say_(line);
  }

  // Keeps the last subject opened: with one subject nothing is read twice.
  void open_everything(const Workload& work) {
    std::vector<Problem> problems;
    for (const size_t place : work.todo) {
      const PlanEntry& entry = plan_[place];
      throw_if_stopped();
      try {
        open(entry);
        if (entry.approach == nullptr) opened_.subject->load_model(entry.published);
      } catch (const UserError& error) {
        for (const Problem& problem : error.problems()) {
          bool known = false;
          for (const Problem& other : problems) known = known || to_text(other) == to_text(problem);
          if (!known) problems.push_back(problem);
        }
      }
    }
    if (!problems.empty()) throw UserError(std::move(problems));
  }

  void open(const PlanEntry& entry) {
    if (opened_.subject && opened_.name == entry.subject->name) return;
    original_.reset();
    opened_ = {};
    opened_ = {std::make_unique<Subject>(*entry.subject, config_, device_.first()), entry.subject->name};
  }

  void open_original(const PlanEntry& entry) {
    open(entry);
    if (original_) return;
    nlohmann::json identity = entry.planned.identity;
    for (const char* gone : {"approach", "version", "seed", "corrupted_below"}) identity.erase(gone);
    identity["subject"].erase("training");
    identity["files"] = {{"model", identity["files"]["model"]}, {"data", identity["files"]["data"]}};
    original_ = std::make_unique<Original>(
        *opened_.subject, tree_.subject(entry.subject->name) / "original.json", digest_of(identity.dump()));
    predict_original_ = original_->predict_seconds();
  }

  // False where the cell gets no result. What goes wrong outside of the approach's own fix() says nothing of
  // the approach: such a cell gets no status and stays missing.
  bool run_one(const PlanEntry& entry, const std::string& prefix, std::vector<std::string>* troubles) {
    const std::string cell = prefix + entry.planned.cell.text();
    bool opened = false;
    try {
      open_original(entry);
      opened = true;
      compute(entry, cell);
      return true;
    } catch (const UserError& error) {
      if (!opened) throw;  // the subject itself cannot be used
      note(cell + " no result: " + error.what(), troubles);
    } catch (const std::exception& error) {
      note(cell + " no result: " + one_line(error), troubles);
    }
    return false;
  }

  void compute(const PlanEntry& entry, const std::string& name) {
    const auto start = std::chrono::steady_clock::now();
    const auto progress = [&](double done, const std::string& what) {
      const auto now = std::chrono::steady_clock::now();
      if (now - last_progress_ < std::chrono::seconds(5)) return;
      last_progress_ = now;
      say_(name + " " + std::to_string(std::lround(100 * done)) + " % " + what);
    };
    last_progress_ = start;
    const CellContext context{config_,
                              *opened_.subject,
                              *original_,
                              tree_,
                              device_name(device_.first()),
                              std::exchange(predict_original_, 0),
                              progress};
    const Record record = run_cell(context, entry);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    char time[32];
    std::snprintf(time, sizeof time, "%.1f s", seconds);
    std::string line = name + " " + to_text(record.status) + " in " + time;
    if (!record.reason.empty()) line += " (" + record.reason + ")";
    if (record.mistrusted()) line += " MISTRUSTED: a check failed, see its record";
    say_(line);
  }

  const Config& config_;
  const ResultsTree& tree_;
  const std::vector<PlanEntry>& plan_;
  const DeviceChoice& device_;
  const std::function<void(const std::string&)>& say_;
  Opened opened_;
  std::unique_ptr<Original> original_;
  double predict_original_ = 0;
  std::chrono::steady_clock::time_point last_progress_;
};

}  // namespace

Workload choose_work(const Config& config, const ResultsTree& tree, const std::vector<PlanEntry>& plan,
                     const Selection& selection) {
  Workload work;
  for (size_t place = 0; place < plan.size(); ++place) {
    const PlanEntry& entry = plan[place];
    if (selection.only && !matches(*selection.only, entry.planned.cell.text())) continue;
    if (!selection.shard.holds(static_cast<int64_t>(place))) continue;
    const std::optional<Record> record = tree.read(entry.planned.cell);
    const CellState state = state_of(entry.planned, record, Compare::exact);
    ++work.states[state];
    work.selected.push_back(place);
    if (is_wanted(config, entry, state, record, selection)) work.todo.push_back(place);
  }
  return work;
}

RunSummary run_plan(const Config& config, const ResultsTree& tree, const std::vector<PlanEntry>& plan,
                    const Selection& selection, const DeviceChoice& device,
                    const std::function<void(const std::string&)>& say) {
  const Workload work = choose_work(config, tree, plan, selection);
  std::string line =
      std::to_string(work.selected.size()) + " cells, " + std::to_string(work.todo.size()) + " to do";
  const auto stale = work.states.find(CellState::stale);
  if (stale != work.states.end()) {
    line += ", " + std::to_string(stale->second) + " stale (made by another version of the approach; --redo)";
  }
  say(line);
  return Engine(config, tree, plan, device, say).run(work);
}

}  // namespace harness
