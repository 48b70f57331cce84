#include <algorithm>
#include <map>

#include "harness/core/files.hpp"
#include "harness/report/tables.hpp"

namespace harness::report {
namespace {

using Row = std::vector<std::string>;

// The columns of the study's tables for each subject.
const std::map<std::string, std::vector<std::string>> kPaperColumns = {
    {"rq2", {"ACC", "ACC_REL_IMPROVEMENT", "RR"}},
    {"rq3", {"ASR", "ASR_REL_IMPROVEMENT", "AAOD", "AAOD_REL_IMPROVEMENT", "NFR"}}};

struct Column {
  std::string subject, metric, device;  // device: with its threads, in rq4 only
};

bool any_value(const Report& report, const std::string& subject, const std::string& metric) {
  bool any_ok = false;
  for (const ApproachReport& row : report.rows) {
    if (row.cell.subject != subject || row.status != "ok") continue;
    any_ok = true;
    const Value* value = row.find(metric);
    if (value && !value->runs.empty()) return true;
  }
  return !any_ok;  // the column stays while nothing is known
}

std::vector<std::string> devices_of(const Report& report, const std::string& subject) {
  std::vector<std::string> devices;
  for (const ApproachReport& row : report.rows) {
    if (row.cell.subject != subject) continue;
    for (const TimeGroup& group : row.times) {
      if (std::find(devices.begin(), devices.end(), group.machine()) == devices.end()) {
        devices.push_back(group.machine());
      }
    }
  }
  std::sort(devices.begin(), devices.end());
  if (devices.empty()) devices.emplace_back();
  return devices;
}

std::vector<Column> columns_of(const Report& report, const std::string& name) {
  std::vector<Column> columns;
  for (const std::string& subject : report.subjects()) {
    if (name == "rq1") columns.push_back({subject, "", ""});
    if (name == "rq4") {
      for (const std::string& device : devices_of(report, subject))
        columns.push_back({subject, "TIME", device});
    }
    const auto paper = kPaperColumns.find(name);
    if (paper == kPaperColumns.end()) continue;
    for (const std::string& metric : paper->second) {
      if (any_value(report, subject, metric)) columns.push_back({subject, metric, ""});
    }
  }
  return columns;
}

std::string title_of(const Column& column, const std::vector<Column>& all) {
  const auto same = std::count_if(all.begin(), all.end(), [&](const Column& other) {
    return other.subject == column.subject && other.metric == column.metric;
  });
  if (column.metric.empty()) return column.subject;
  return column.subject + " " + column.metric + (same > 1 ? " [" + column.device + "]" : "");
}

std::string entry_of(const ApproachReport& row, const Column& column) {
  if (row.status != "ok" || column.metric.empty()) return row.status;
  if (column.metric == "TIME") {
    // no mean over several numbers of workers, as workers that share a device are slower
    const Value* only = nullptr;
    for (const TimeGroup& group : row.times) {
      if (group.machine() != column.device) continue;
      if (only != nullptr) return "";
      only = &group.values.front();
    }
    return only && only->mean() ? format_number(*only->mean()) : "";
  }
  const Value* value = row.find(column.metric);
  return value && value->mean() ? format_number(*value->mean()) : "";
}

bool comes_before(const ApproachReport& a, const ApproachReport& b) {
  const auto rank = [](const ApproachReport& row) {
    return row.level == Level::control ? 2 : row.level == Level::published ? 1 : 0;
  };
  if (rank(a) != rank(b)) return rank(a) < rank(b);
  return a.cell.approach < b.cell.approach;
}

}  // namespace

Table wide_table(const Report& report, const std::string& name) {
  const std::vector<Column> columns = columns_of(report, name);
  Table table{name + "_wide", {"approach", "name", "level"}, {}};
  for (const Column& column : columns) table.columns.push_back(title_of(column, columns));
  table.columns.push_back("notes");
  std::vector<const ApproachReport*> firsts;  // one row of each approach, of any subject
  for (const ApproachReport& row : report.rows) {
    const bool seen = std::any_of(firsts.begin(), firsts.end(), [&](const ApproachReport* first) {
      return first->cell.approach == row.cell.approach;
    });
    if (!seen) firsts.push_back(&row);
  }
  std::sort(firsts.begin(), firsts.end(),
            [](const ApproachReport* a, const ApproachReport* b) { return comes_before(*a, *b); });
  for (const ApproachReport* first : firsts) {
    Row line = {first->cell.approach, first->name, to_text(first->level)};
    std::string notes;
    for (const Column& column : columns) {
      std::string entry;
      for (const ApproachReport& row : report.rows) {
        if (row.cell.approach == first->cell.approach && row.cell.subject == column.subject) {
          entry = entry_of(row, column);
        }
      }
      line.push_back(entry);
    }
    for (const ApproachReport& row : report.rows) {
      if (row.cell.approach != first->cell.approach) continue;
      std::string note = row.reason;
      if (name == "rq3") {
        for (const std::string& mark : row.marks) note += (note.empty() ? "" : "; ") + mark;
      }
      if (!note.empty()) notes += (notes.empty() ? "" : " | ") + row.cell.subject + ": " + note;
    }
    line.push_back(notes);
    table.rows.push_back(std::move(line));
  }
  return table;
}

}  // namespace harness::report
