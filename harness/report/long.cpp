#include <algorithm>
#include <set>

#include "harness/core/files.hpp"
#include "harness/report/tables.hpp"

namespace harness::report {
namespace {

using Row = std::vector<std::string>;

std::string number(const std::optional<double>& value) {
  return value ? format_number(*value) : "";
}

Row head_of(const ApproachReport& row) {
  return {row.cell.subject, row.cell.model, row.cell.approach, row.name, to_text(row.level)};
}

void append(Row* row, const Row& more) {
  row->insert(row->end(), more.begin(), more.end());
}

Row value_columns(const ApproachReport& row, const Value& value) {
  const bool any = !value.runs.empty();
  return {value.metric,
          value.unit,
          to_text(value.better),
          number(value.mean()),
          number(value.deviation()),
          any ? format_number(*std::min_element(value.runs.begin(), value.runs.end())) : "",
          any ? format_number(*std::max_element(value.runs.begin(), value.runs.end())) : "",
          std::to_string(value.runs.size()),
          row.status,
          row.reason_of(value)};
}

const Row kLongColumns = {"subject", "model", "approach", "name", "level", "metric", "unit",  "better",
                          "mean",    "std",   "min",      "max",  "runs",  "status", "reason"};

Value empty_value(const metrics::Metric& metric) {
  return {metric.name, metric.unit, metric.table, metric.better, metric.joint, {}, ""};
}

Value empty_time() {
  return {"TIME", "seconds", "rq4", metrics::Better::lower, false, {}, ""};
}

// The rows of runs.csv for one run: every metric, then the times.
void append_run(const RunCell& run, Table* table) {
  const Record* record = run.record ? &*run.record : nullptr;
  const Row head = {run.planned.cell.subject, run.planned.cell.approach, std::to_string(run.planned.cell.run),
                    std::to_string(record ? record->seed : run.planned.seed)};
  const std::string status = record ? to_text(record->status) : "missing";
  std::string why = record ? record->reason : to_text(run.state);
  if (run.state == CellState::stale) why += std::string(why.empty() ? "" : "; ") + "stale";
  if (record && run.ok() && record->mistrusted()) {
    why += std::string(why.empty() ? "" : "; ") + mistrust(*record);
  }
  if (run.ok() && !cut_short_mark(*record).empty()) {
    why += std::string(why.empty() ? "" : "; ") + cut_short_mark(*record);
  }
  if (record && record->limited) why += std::string(why.empty() ? "" : "; ") + "LIMITED";
  const auto add = [&](const std::string& metric, const std::string& unit, const std::string& value,
                       const std::string& own) {
    Row row = head;
    const std::string both = own.empty() || why.empty() ? own + why : own + "; " + why;
    append(&row, {metric, unit, value, status, both, record ? record->device : ""});
    table->rows.push_back(std::move(row));
  };
  for (const metrics::Metric& metric : metrics::all()) {
    const MetricRecord* found = nullptr;
    if (record) {
      for (const MetricRecord& one : record->metrics) {
        if (one.name == metric.name) found = &one;
      }
    }
    add(metric.name, metric.unit, found ? number(found->value) : "", found ? found->reason : "");
  }
  const auto fix = record ? record->phases.find("fix") : std::map<std::string, double>::const_iterator();
  const bool timed = record && fix != record->phases.end();
  add("TIME", "seconds", timed ? format_number(fix->second) : "", "");
  if (!record) return;
  for (const auto& [phase, seconds] : record->phases) {
    if (phase != "fix") add("TIME_" + phase, "seconds", format_number(seconds), "");
  }
}

}  // namespace

Table applicability_table(const Report& report) {
  Table table{
      "rq1", {"subject", "model", "approach", "name", "level", "status", "reason", "runs", "ok_runs"}, {}};
  for (const ApproachReport& row : report.rows) {
    Row line = head_of(row);
    append(&line, {row.status, row.reason, std::to_string(row.recorded), std::to_string(row.ok_runs)});
    table.rows.push_back(std::move(line));
  }
  return table;
}

Table metric_table(const Report& report, const std::string& name) {
  Table table{name, kLongColumns, {}};
  for (const ApproachReport& row : report.rows) {
    for (const metrics::Metric& metric : metrics::all()) {
      if (metric.table != name) continue;
      const Value* value = row.find(metric.name);
      Row line = head_of(row);
      append(&line, value_columns(row, value ? *value : empty_value(metric)));
      table.rows.push_back(std::move(line));
    }
  }
  return table;
}

Table time_table(const Report& report) {
  Table table{"rq4", kLongColumns, {}};
  append(&table.columns, {"device", "threads", "concurrent_workers", "interruptions"});
  for (const ApproachReport& row : report.rows) {
    if (row.times.empty()) {
      Row line = head_of(row);
      append(&line, value_columns(row, empty_time()));
      append(&line, {"", "", "", ""});
      table.rows.push_back(std::move(line));
    }
    for (const TimeGroup& group : row.times) {
      for (const Value& value : group.values) {
        Row line = head_of(row);
        append(&line, value_columns(row, value));
        append(&line, {group.device, group.threads > 0 ? std::to_string(group.threads) : "",
                       std::to_string(group.workers), std::to_string(group.interruptions)});
        table.rows.push_back(std::move(line));
      }
    }
  }
  return table;
}

Table runs_table(const Report& report) {
  Table table{"runs",
              {"subject", "approach", "run", "seed", "metric", "unit", "value", "status", "reason", "device"},
              {}};
  for (const ApproachReport& row : report.rows) {
    for (const RunCell& run : row.runs) append_run(run, &table);
  }
  return table;
}

}  // namespace harness::report
