#include "harness/plan/workload.hpp"

#include "harness/core/error.hpp"

namespace harness::plan {
namespace {

using nlohmann::json;

std::string code_of(const RecordSummary& record) {
  return record.reason.substr(0, record.reason.find(':'));
}

// Whether the record is a failure at a budget that is larger now.
bool outgrown(const Config& config, const ResultsTree& tree, const PlanEntry& entry,
              const RecordSummary& record) {
  if (record.status != Status::failure ||
      (code_of(record) != "timeout" && code_of(record) != "out_of_memory")) {
    return false;
  }
  const std::optional<Record> whole = tree.look(entry.planned.cell).record;
  if (!whole) return true;
  const Budget now = budget_of(config, entry);
  const json before = whole->provenance.value("budget", json::object());
  const auto grew = [&](const char* key, const std::optional<double>& limit) {
    const json was = before.is_object() ? before.value(key, json()) : json();
    return was.is_number() && (!limit || *limit > was.get<double>());
  };
  return (code_of(record) == "timeout" && grew("seconds", now.seconds)) ||
         (code_of(record) == "out_of_memory" &&
          (grew("megabytes", now.megabytes) || grew("device_megabytes", now.device_megabytes)));
}

std::optional<Reuse> wanted(const Config& config, const ResultsTree& tree, const PlanEntry& entry,
                            CellState state, const std::optional<RecordSummary>& record,
                            const Selection& selection, const std::optional<Redo>& redo) {
  if (redo && matches(*selection.redo, entry.planned.cell.text())) {
    const bool redone = redo->begun && state == CellState::finished &&
                        redo_of(tree.look(entry.planned.cell).record) == redo->token;
    if (!redone) return Reuse::nothing;
  }
  if (state == CellState::missing || state == CellState::outdated || state == CellState::damaged) {
    return Reuse::everything;
  }
  if (record->status == Status::failure && selection.retry.count(code_of(*record)) > 0) return Reuse::retry;
  if (outgrown(config, tree, entry, *record)) return Reuse::retry;
  return std::nullopt;
}

}  // namespace

const char* to_text(Reuse reuse) {
  switch (reuse) {
    case Reuse::everything:
      return "everything";
    case Reuse::retry:
      return "retry";
    case Reuse::nothing:
      return "nothing";
  }
  interface_misuse("no such reuse");
}

bool fails_run(const RecordSummary& record) {
  static const std::set<std::string> codes = {"crashed", "timeout", "out_of_memory"};
  return record.status == Status::failure && codes.count(code_of(record)) > 0;
}

Workload choose_work(const Config& config, const ResultsTree& tree, RecordIndex& index,
                     const std::vector<PlanEntry>& plan, const std::optional<FrozenPlan>& frozen,
                     const Selection& selection) {
  Workload work;
  work.redo = find_redo(tree, selection);
  const std::vector<bool> of_shard = cells_of_shard(plan, frozen, selection.shard);
  for (size_t place = 0; place < plan.size(); ++place) {
    const PlanEntry& entry = plan[place];
    RecordIndex::Found found = index.look(entry.planned);
    work.records.push_back(std::move(found.summary));
    if (selection.only && !matches(*selection.only, entry.planned.cell.text())) continue;
    if (!of_shard[place]) continue;
    if (found.damage) work.damaged.emplace_back(place, *found.damage);
    ++work.states[found.state];
    work.selected.push_back(place);
    const auto reuse = wanted(config, tree, entry, found.state, work.records.back(), selection, work.redo);
    if (reuse) work.todo.push_back({place, *reuse});
  }
  const std::vector<Cost> costs = expected_costs(plan, work.records);
  for (Task& task : work.todo) task.expected = costs[task.place].seconds.value_or(0);
  return work;
}

}  // namespace harness::plan
