// What of a plan is to be computed.
#include "harness/run/engine.hpp"

namespace harness {
namespace {

using nlohmann::json;

std::string code_of(const Record& record) {
  return record.reason.substr(0, record.reason.find(':'));
}

// What ran out of its budget is no answer once that grew (DESIGN 7).
bool outgrown(const Config& config, const PlanEntry& entry, const Record& record) {
  if (record.status != Status::failure) return false;
  const Budget now = budget_of(config, entry);
  const json before = record.provenance.value("budget", json::object());
  const auto grew = [&](const char* key, const std::optional<double>& limit) {
    const json was = before.is_object() ? before.value(key, json()) : json();
    return was.is_number() && (!limit || *limit > was.get<double>());
  };
  return (code_of(record) == "timeout" && grew("seconds", now.seconds)) ||
         (code_of(record) == "out_of_memory" && grew("megabytes", now.megabytes));
}

std::optional<Reuse> wanted(const Config& config, const PlanEntry& entry, CellState state,
                            const std::optional<Record>& record, const Selection& selection) {
  if (selection.redo && matches(*selection.redo, entry.planned.cell.text())) return Reuse::nothing;
  if (state == CellState::missing || state == CellState::outdated || state == CellState::damaged) {
    return Reuse::everything;
  }
  if (record->status == Status::failure && selection.retry.count(code_of(*record)) > 0) return Reuse::retry;
  if (outgrown(config, entry, *record)) return Reuse::retry;
  return std::nullopt;
}

}  // namespace

bool is_trouble(const Record& record) {
  static const std::set<std::string> codes = {"crashed", "timeout", "out_of_memory"};
  return record.status == Status::failure && codes.count(code_of(record)) > 0;
}

Workload choose_work(const Config& config, const ResultsTree& tree, const std::vector<PlanEntry>& plan,
                     const std::optional<FrozenPlan>& frozen, const Selection& selection) {
  Workload work;
  const std::vector<bool> of_shard = cells_of_shard(plan, frozen, selection.shard);
  for (size_t place = 0; place < plan.size(); ++place) {
    const PlanEntry& entry = plan[place];
    FoundRecord found = tree.look(entry.planned.cell);
    work.records.push_back(std::move(found.record));
    if (selection.only && !matches(*selection.only, entry.planned.cell.text())) continue;
    if (!of_shard[place]) continue;
    const std::optional<Record>& record = work.records.back();
    CellState state = state_of(entry.planned, record, Compare::exact);
    if (found.damage) {
      state = CellState::damaged;
      work.damaged.emplace_back(place, *found.damage);
    }
    ++work.states[state];
    work.selected.push_back(place);
    if (const auto reuse = wanted(config, entry, state, record, selection))
      work.todo.push_back({place, *reuse});
  }
  const std::vector<Cost> costs = expected_costs(plan, work.records);
  for (Task& task : work.todo) task.expected = costs[task.place].seconds.value_or(0);
  return work;
}

}  // namespace harness
