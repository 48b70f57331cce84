#include "harness/pool/run_summary.hpp"

namespace harness {

void sum_up(const ResultsTree& tree, const std::vector<PlanEntry>& plan, const Workload& work,
            const std::optional<Redo>& redo, RunSummary* summary) {
  std::map<size_t, std::optional<RecordSummary>> ran;
  bool redone = true;
  for (const Task& task : work.todo) {
    const PlannedCell& planned = plan[task.place].planned;
    const std::optional<Record> record = tree.look(planned.cell).record;
    const CellState state = state_of(planned, record, Compare::exact);
    const bool counts = state == CellState::finished || state == CellState::stale;
    ran[task.place] = counts ? std::optional(summary_of(*record)) : std::nullopt;
    if (task.reuse != Reuse::nothing || (redo && redo_of(record) == redo->token)) continue;
    redone = false;
    summary->failed = summary->failed || !summary->interrupted;
  }
  if (redo && redone && !summary->interrupted) end(*redo);
  for (const size_t place : work.selected) {
    const auto found = ran.find(place);
    const std::optional<RecordSummary>& record = found != ran.end() ? found->second : work.records[place];
    ++summary->statuses[record ? to_text(record->status) : "missing"];
    if (record && !fails_run(*record)) continue;
    summary->failed = true;
    if (record) summary->failures.emplace_back(plan[place].planned.cell.text(), record->reason);
  }
}

}  // namespace harness
