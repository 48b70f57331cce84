#include "harness/report/report.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "harness/report/equal_effort.hpp"
#include "harness/report/joint.hpp"

namespace harness::report {
namespace {

int rank_of(Level level) {
  if (level == Level::control) return 2;
  return level == Level::published ? 1 : 0;
}

int gravity(Status status) {
  switch (status) {
    case Status::ok:
      return 0;
    case Status::corrupted:
      return 1;
    case Status::failure:
      return 2;
    case Status::unadaptable:
      return 3;
  }
  interface_misuse("no such status");
}

void add_once(std::vector<std::string>* list, const std::string& text) {
  if (!text.empty() && std::find(list->begin(), list->end(), text) == list->end()) list->push_back(text);
}

std::string join(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

std::string share(int64_t some, size_t all, const std::string& what) {
  return std::to_string(some) + " of " + std::to_string(all) + " " + what;
}

}  // namespace

std::string mistrust(const Record& record) {
  return "mistrusted: " + record.failed_checks();
}

std::string cut_short_mark(const Record& record) {
  const std::string budget = record.cut_short();
  return budget.empty() ? "" : "cut_short: " + budget;
}

namespace {

// `mark` with the runs that it concerns: "mistrusted: random_output (run 2)".
std::string mistrusted_runs(const ApproachReport& row, const std::string& mark) {
  std::string runs;
  for (const RunCell& run : row.runs) {
    if (!run.ok() || mistrust(*run.record) != mark) continue;
    runs += (runs.empty() ? "" : ", ") + std::to_string(run.planned.cell.run);
  }
  return mark + (runs.find(',') == std::string::npos ? " (run " : " (runs ") + runs + ")";
}

// Sets status and reason of a row: "1 of 3 CORRUPTED (accuracy: ...); LIMITED: part of the data".
void summarise(ApproachReport* row) {
  std::map<int, std::vector<const Record*>> by_severity;
  int64_t missing = 0, outdated = 0, other_limit = 0, limited = 0, stale = 0;
  std::vector<std::string> notes;
  for (const RunCell& run : row->runs) {
    missing += run.state == CellState::missing;
    outdated += run.state == CellState::outdated && !run.other_limit;
    other_limit += run.other_limit;
    if (!run.record) continue;
    ++row->recorded;
    row->ok_runs += run.ok();
    stale += run.state == CellState::stale;
    limited += run.record->limited;
    by_severity[gravity(run.record->status)].push_back(&*run.record);
  }
  std::vector<std::string> parts;
  row->status = by_severity.empty() ? "missing" : to_text(by_severity.begin()->second.front()->status);
  for (const auto& [severity, records] : by_severity) {
    std::vector<std::string> reasons;
    for (const Record* record : records) add_once(&reasons, record->reason);
    if (severity == 0) {
      for (const std::string& reason : reasons) {
        const auto count = std::count_if(records.begin(), records.end(),
                                         [&](const Record* record) { return record->reason == reason; });
        const bool all = static_cast<size_t>(count) == row->runs.size();
        notes.push_back(all ? reason : share(count, row->runs.size(), reason));
      }
    } else if (records.size() == row->runs.size()) {
      parts.push_back(join(reasons));
    } else {
      parts.push_back(
          share(static_cast<int64_t>(records.size()), row->runs.size(), to_text(records.front()->status)) +
          (reasons.empty() ? "" : " (" + join(reasons) + ")"));
    }
  }
  if (missing > 0) parts.push_back(share(missing, row->runs.size(), "missing"));
  if (outdated > 0) parts.push_back(share(outdated, row->runs.size(), "outdated: the configuration changed"));
  if (other_limit > 0) {
    parts.push_back(share(other_limit, row->runs.size(), "outdated: made with another --limit"));
  }
  for (const std::string& note : notes) parts.push_back(note);
  for (const RunCell& run : row->runs) {
    if (run.ok() && run.record->mistrusted()) {
      add_once(&parts, mistrusted_runs(*row, mistrust(*run.record)));
    }
  }
  std::map<std::string, int64_t> budgets;
  for (const RunCell& run : row->runs) {
    if (run.ok() && !cut_short_mark(*run.record).empty()) ++budgets[cut_short_mark(*run.record)];
  }
  for (const auto& [mark, count] : budgets) {
    const bool all = static_cast<size_t>(count) == row->runs.size();
    parts.push_back(all ? mark : mark + " (" + share(count, row->runs.size(), "runs") + ")");
  }
  row->cut_short = !budgets.empty();
  if (stale > 0)
    parts.push_back(share(stale, row->runs.size(), "stale: made by another version of the approach"));
  if (limited > 0) parts.push_back("LIMITED: part of the data");
  row->reason = join(parts);
}

Value value_of(const metrics::Metric& metric, const ApproachReport& row) {
  Value value{metric.name, metric.unit, metric.table, metric.better, metric.joint, {}, ""};
  for (const RunCell& run : row.runs) {
    if (!run.ok()) continue;
    const auto& recorded = run.record->metrics;
    const auto found = std::find_if(recorded.begin(), recorded.end(),
                                    [&](const MetricRecord& one) { return one.name == metric.name; });
    if (found == recorded.end()) {
      value.reason = "not_measured: the record is older than this metric";
    } else if (found->value) {
      value.runs.push_back(*found->value);
    } else {
      value.reason = found->reason;
    }
  }
  return value;
}

void measure(const ResultsTree& tree, ApproachReport* row) {
  const std::vector<metrics::Evaluation> common =
      row->ok_runs > 1 ? common_attack(tree, *row) : std::vector<metrics::Evaluation>();
  for (const metrics::Metric& metric : metrics::all()) {
    Value value = value_of(metric, *row);
    if (metric.joint && !common.empty()) {
      value.runs.clear();
      for (const metrics::Evaluation& run : common) {
        const metrics::MetricValue computed = metric.compute(run);
        if (computed.value) value.runs.push_back(*computed.value);
        if (!computed.value) value.reason = computed.reason;
      }
    }
    const auto mean = value.mean();
    if (metric.mark_above && mean && *mean > *metric.mark_above) {
      row->marks.push_back(metric.name + " above " + std::to_string(std::lround(*metric.mark_above)) + ": " +
                           metric.mark);
    }
    // Without this mark most cells of the row would be empty, and nothing would say why.
    if (value.runs.empty() && value.reason.starts_with("attack_impossible: ")) {
      add_once(&row->marks, value.reason);
    }
    row->values.push_back(std::move(value));
  }
}

Value time_of(const std::string& phase, const std::vector<const Record*>& records, Level level) {
  Value value{
      phase == "fix" ? "TIME" : "TIME_" + phase, "seconds", "rq4", metrics::Better::lower, false, {}, ""};
  for (const Record* record : records) {
    const auto found = record->phases.find(phase);
    if (found != record->phases.end()) value.runs.push_back(found->second);
  }
  if (value.runs.empty()) {
    value.reason = level == Level::published ? "not_applicable: the models were fixed elsewhere"
                                             : "not_measured: the record has no such phase";
  }
  return value;
}

void measure_times(ApproachReport* row) {
  std::map<std::tuple<std::string, int64_t, int64_t>, std::vector<const Record*>> groups;
  for (const RunCell& run : row->runs) {
    if (!run.ok()) continue;
    const Record& record = *run.record;
    groups[{record.device, record.threads, record.concurrent_workers}].push_back(&record);
  }
  for (const auto& [key, records] : groups) {
    const auto& [device, threads, workers] = key;
    TimeGroup group{device, threads, workers, 0, false, {time_of("fix", records, row->level)}};
    std::set<std::string> phases;
    for (const Record* record : records) {
      group.interruptions += record->interruptions;
      group.cut_short = group.cut_short || !record->cut_short().empty();
      for (const auto& [phase, seconds] : record->phases) phases.insert(phase);
    }
    phases.erase("fix");
    for (const std::string& phase : phases) group.values.push_back(time_of(phase, records, row->level));
    row->times.push_back(std::move(group));
  }
}

}  // namespace

std::string TimeGroup::machine() const {
  if (threads == 0) return device;
  return device + ", " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
}

std::optional<double> Value::mean() const {
  if (runs.empty()) return std::nullopt;
  double sum = 0;
  for (const double value : runs) sum += value;
  return sum / static_cast<double>(runs.size());
}

std::optional<double> Value::deviation() const {
  if (runs.size() < 2) return std::nullopt;
  const double centre = *mean();
  double sum = 0;
  for (const double value : runs) sum += (value - centre) * (value - centre);
  return std::sqrt(sum / static_cast<double>(runs.size() - 1));
}

const Value* ApproachReport::find(const std::string& metric) const {
  const auto found =
      std::find_if(values.begin(), values.end(), [&](const Value& value) { return value.metric == metric; });
  return found == values.end() ? nullptr : &*found;
}

std::string ApproachReport::reason_of(const Value& value) const {
  std::vector<std::string> parts;
  if (static_cast<int64_t>(value.runs.size()) < ok_runs) add_once(&parts, value.reason);
  if (value.joint && !value.runs.empty()) {
    for (const std::string& mark : marks) add_once(&parts, mark);
  }
  add_once(&parts, reason);
  return join(parts);
}

std::vector<std::string> Report::subjects() const {
  std::vector<std::string> names;
  for (const ApproachReport& row : rows) add_once(&names, row.cell.subject);
  return names;
}

std::string Report::coverage() const {
  std::string text = share(recorded, static_cast<size_t>(planned), "cells have a record");
  if (missing > 0) text += ", " + std::to_string(missing) + " missing";
  const int64_t changed = outdated - other_limit;
  if (changed > 0) text += ", " + std::to_string(changed) + " outdated (the configuration changed since)";
  if (other_limit > 0) {
    text += ", " + std::to_string(other_limit) + " outdated (made with another --limit, or without)";
  }
  if (stale > 0) text += ", " + std::to_string(stale) + " stale (made by another version of the approach)";
  if (mistrusted > 0) text += ", " + std::to_string(mistrusted) + " mistrusted (a check failed)";
  if (limited > 0) text += "; LIMITED: made from part of the data";
  return text;
}

Report make_report(const ResultsTree& tree, const std::vector<PlannedCell>& plan) {
  Report report;
  std::map<std::tuple<std::string, int, std::string>, ApproachReport> rows;
  for (const PlannedCell& planned : plan) {
    ApproachReport& row = rows[{planned.cell.subject, rank_of(planned.level), planned.cell.approach}];
    row.cell = planned.cell;
    row.name = planned.name;
    row.level = planned.level;
    row.basis = planned.basis;
    RunCell run{planned, CellState::missing, tree.read(planned.cell), false};
    run.state = state_of(planned, run.record, Compare::tables);
    if (run.state == CellState::outdated) {
      run.other_limit = limit_in(run.record->identity()) != limit_in(planned.identity);
      run.record.reset();
    }
    ++report.planned;
    report.missing += run.state == CellState::missing;
    report.outdated += run.state == CellState::outdated;
    report.other_limit += run.other_limit;
    report.stale += run.state == CellState::stale;
    report.recorded += run.record.has_value();
    report.limited += run.record && run.record->limited;
    report.mistrusted += run.ok() && run.record->mistrusted();
    row.runs.push_back(std::move(run));
  }
  for (auto& [key, row] : rows) {
    summarise(&row);
    if (row.ok_runs > 0) {
      measure(tree, &row);
      measure_times(&row);
    }
    report.rows.push_back(std::move(row));
  }
  note_unequal_evaluations(&report.rows);
  return report;
}

}  // namespace harness::report
