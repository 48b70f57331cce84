#include "harness/pool/run_summary.hpp"

namespace harness::pool {

void sum_up(const ResultsTree& tree, const std::vector<plan::PlanEntry>& plan, const plan::Workload& work,
            const std::optional<plan::Redo>& redo, RunSummary* summary) {
  std::map<size_t, std::optional<RecordSummary>> ran;
  bool redone = true;
  for (const plan::Task& task : work.todo) {
    const PlannedCell& planned = plan[task.place].planned;
    const std::optional<Record> record = tree.look(planned.cell).record;
    const CellState state = state_of(planned, record, Compare::exact);
    const bool counts = state == CellState::finished || state == CellState::stale;
    ran[task.place] = counts ? std::optional(summary_of(*record)) : std::nullopt;
    if (task.reuse != plan::Reuse::nothing || (redo && plan::redo_of(record) == redo->token)) continue;
    redone = false;
    summary->failed = summary->failed || !summary->interrupted;
  }
  if (redo && redone && !summary->interrupted) plan::end(*redo);
  for (const size_t place : work.selected) {
    const auto found = ran.find(place);
    const std::optional<RecordSummary>& record = found != ran.end() ? found->second : work.records[place];
    ++summary->statuses[record ? to_text(record->status) : "missing"];
    if (record && !plan::fails_run(*record)) continue;
    summary->failed = true;
    if (record) summary->failures.emplace_back(plan[place].planned.cell.text(), record->reason);
  }
}

}  // namespace harness::pool
