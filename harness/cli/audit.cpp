#include <iostream>
#include <map>

#include "harness/approach/approach.hpp"
#include "harness/cli/commands.hpp"
#include "harness/cli/common.hpp"
#include "harness/core/stop_signals.hpp"
#include "harness/plan/audit.hpp"
#include "harness/pool/engine.hpp"

namespace harness::cli {
namespace {

// A results tree beside the real one, which is removed at the end.
class ScratchTree {
 public:
  explicit ScratchTree(const ResultsTree& tree) : tree_(tree.root() / "audit") {
    std::filesystem::remove_all(tree_.root());
  }
  ~ScratchTree() {
    std::error_code ignored;
    std::filesystem::remove_all(tree_.root(), ignored);
  }
  ScratchTree(const ScratchTree&) = delete;
  ScratchTree& operator=(const ScratchTree&) = delete;
  const ResultsTree& tree() const { return tree_; }

 private:
  ResultsTree tree_;
};

int audit(const Arguments& arguments) {
  const std::string format = arguments.choice("format", {"text", "csv", "json"});
  const Config config = configured(arguments, true);
  const ResultsTree tree = tree_of(arguments, config);
  const pool::RunOptions options = {.device = choose_device(config.device),
                                    .jobs = arguments.integer("jobs", 1).value_or(1),
                                    .threads = arguments.integer("threads", 1, kMaxThreads).value_or(0)};
  const auto plan = plan::make_plan(config, approach_catalog(), options.device.kind());
  RecordIndex index(tree);
  std::vector<std::optional<RecordSummary>> records;
  std::vector<CellState> states;
  for (const plan::PlanEntry& entry : plan) {
    RecordIndex::Found found = index.look(entry.planned);
    records.push_back(std::move(found.summary));
    states.push_back(found.state);
  }
  const std::vector<plan::Cost> costs = plan::expected_costs(plan, records);
  const auto seed =
      static_cast<uint64_t>(arguments.integer("seed", 0).value_or(static_cast<int64_t>(config.seed)));
  plan::Workload work;
  work.selected = plan::audit_sample(states, arguments.integer("sample", 1).value_or(3), seed);
  work.records.resize(plan.size());
  std::map<size_t, std::string> left;  // place in the plan, why it is not computed again
  for (const size_t place : work.selected) {
    const auto record = tree.read(plan[place].planned.cell);
    if (const std::string budget = record ? record->cut_short() : ""; !budget.empty()) {
      left[place] = "not computed again: its budget of " + budget + " ended the fix";
      continue;
    }
    work.todo.push_back({place, plan::Reuse::everything, costs[place].seconds.value_or(0)});
  }
  pool::Progress progress(arguments.has("quiet") ? pool::Progress::Form::silent
                                                 : pool::Progress::form_of_standard_error());
  progress.say(std::to_string(work.todo.size()) + " cells again");
  install_stop_signals(false);
  const ScratchTree scratch(tree);
  const pool::RunSummary summary = pool::run_plan(config, scratch.tree(), plan, work, options, progress);
  if (summary.interrupted) return 3;
  report::Table table{"audit", {"id", "same", "differences"}, {}};
  bool all_same = true;
  for (const size_t place : work.selected) {
    const CellId& cell = plan[place].planned.cell;
    if (left.contains(place)) {
      table.rows.push_back({cell.text(), "-", left[place]});
      continue;
    }
    std::string text;
    for (const std::string& one :
         plan::audit_differences(cell, tree, scratch.tree(), plan::audit_tolerance(options.device.kind()))) {
      text += (text.empty() ? "" : "; ") + one;
    }
    all_same = all_same && text.empty();
    table.rows.push_back({cell.text(), text.empty() ? "yes" : "NO", text});
  }
  print_table(table, format);
  return all_same ? 0 : 1;
}

}  // namespace

Command audit_command() {
  return {{"audit",
           "Computes some finished cells again and compares: bit by bit on the CPU, within a tolerance on a "
           "GPU. A fix that its budget ended is left out: the result depends on the speed of the machine.",
           {"CONFIG"},
           {{"sample", OptionKind::single, "K", "how many cells (default 3)"},
            {"seed", OptionKind::single, "N", "which ones (default: the configuration's seed)"},
            results_option(),
            set_option(),
            device_option(),
            threads_option(),
            {"jobs", OptionKind::single, "N", "cells at a time on the CPU (default 1)"},
            format_option(),
            quiet_option()}},
          audit};
}

}  // namespace harness::cli
