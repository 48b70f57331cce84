#include <algorithm>
#include <cmath>
#include <cstdio>

#include "harness/report/tables.hpp"

namespace harness::report {
namespace {

using Row = std::vector<std::string>;

// Behind every value of a row with a fix that a budget ended.
constexpr const char* kCutShort = "†";
constexpr const char* kCutShortLegend =
    "† cut short: a budget ended the fix, which would have gone on; on a faster machine the value is "
    "another\n";

int digits_of(double mean, const std::string& unit) {
  if (unit == "fraction") return 4;
  if (unit == "count") return mean == std::floor(mean) ? 0 : 1;
  if (unit == "seconds") return mean < 10 ? 3 : 1;
  return 2;
}

std::string rounded(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string entry_of(const Value& value, bool cut_short) {
  const auto mean = value.mean(), deviation = value.deviation();
  if (!mean) return "-";
  int digits = digits_of(*mean, value.unit);
  if (deviation && value.unit == "count") digits = std::max(digits, digits_of(*deviation, value.unit));
  return rounded(*mean, digits) + (deviation ? " ±" + rounded(*deviation, digits) : "") +
         (cut_short ? kCutShort : "");
}

// Breaks a long head such as "ACC_REL_IMPROVEMENT_REPAIR" into three lines, which take a third of the width.
Row stacked(const std::string& metric, const std::string& unit) {
  std::string name = metric, second, third = unit == "percent" ? "%" : unit == "seconds" ? "s" : "";
  const auto take = [&](const std::string& part, const std::string& shown) {
    const size_t at = name.find(part);
    if (at == std::string::npos || at == 0) return;
    name.erase(at, part.size());
    second += (second.empty() ? "" : " ") + shown;
  };
  take("_REL_IMPROVEMENT", "rel. impr.");
  take("_ORIGINAL", "original");
  take("_REPAIR", "repair split");
  if (name.rfind("TIME_", 0) == 0) {
    second = name.substr(5);
    name = "TIME";
  }
  return {name, second, third};
}

// Footnotes, numbered in the order in which they appear.
class Notes {
 public:
  std::string number(const std::string& text) {
    if (text.empty()) return "";
    const auto found = std::find(texts_.begin(), texts_.end(), text);
    const auto at = found - texts_.begin();
    if (found == texts_.end()) texts_.push_back(text);
    return "[" + std::to_string(at + 1) + "]";
  }
  std::string text() const {
    std::string lines;
    for (size_t i = 0; i < texts_.size(); ++i) lines += "[" + std::to_string(i + 1) + "] " + texts_[i] + "\n";
    return lines;
  }

 private:
  std::vector<std::string> texts_;
};

std::string applicability(const Report& report, Notes* notes) {
  const std::vector<std::string> subjects = report.subjects();
  Row header = {"approach", "level"};
  header.insert(header.end(), subjects.begin(), subjects.end());
  std::vector<Row> rows;
  for (const ApproachReport& row : report.rows) {
    auto line =
        std::find_if(rows.begin(), rows.end(), [&](const Row& one) { return one[0] == row.cell.approach; });
    if (line == rows.end()) {
      rows.push_back({row.cell.approach, to_text(row.level)});
      rows.back().resize(header.size(), "");
      line = rows.end() - 1;
    }
    const auto at = std::find(subjects.begin(), subjects.end(), row.cell.subject) - subjects.begin();
    std::string entry = row.status;
    if (row.status == "ok")
      entry += " " + std::to_string(row.ok_runs) + "/" + std::to_string(row.runs.size());
    if (row.cut_short) entry += kCutShort;
    const std::string note = notes->number(row.reason);
    (*line)[static_cast<size_t>(at) + 2] = entry + (note.empty() ? "" : " " + note);
  }
  return "RQ1 applicability: status, ok runs of planned runs\n\n" + to_aligned({header}, rows, header.size());
}

struct Layout {
  std::vector<Row> header{3};
  void column(const std::string& metric, const std::string& unit) {
    const Row lines = stacked(metric, unit);
    for (size_t i = 0; i < 3; ++i) header[i].push_back(lines[i]);
  }
  void plain(const std::string& title) {
    header[0].push_back(title);
    header[1].emplace_back();
    header[2].emplace_back();
  }
};

std::vector<Row> without_empty_lines(std::vector<Row> header) {
  std::erase_if(header, [](const Row& row) {
    return std::all_of(row.begin(), row.end(), [](const std::string& text) { return text.empty(); });
  });
  return header;
}

std::string metrics_of(const Report& report, const std::string& subject, const std::string& name,
                       Notes* notes) {
  std::vector<const metrics::Metric*> shown;
  for (const metrics::Metric& metric : metrics::all()) {
    if (metric.table != name) continue;
    const bool any = std::any_of(report.rows.begin(), report.rows.end(), [&](const ApproachReport& row) {
      const Value* value = row.cell.subject == subject ? row.find(metric.name) : nullptr;
      return value && !value->runs.empty();
    });
    if (any) shown.push_back(&metric);
  }
  Layout layout;
  for (const char* title : {"approach", "status", "runs"}) layout.plain(title);
  for (const metrics::Metric* metric : shown) layout.column(metric->name, metric->unit);
  layout.plain("notes");
  std::vector<Row> rows;
  for (const ApproachReport& row : report.rows) {
    if (row.cell.subject != subject) continue;
    Row line = {row.cell.approach, row.status, std::to_string(row.ok_runs)};
    std::string marks = notes->number(row.reason);
    for (const metrics::Metric* metric : shown) {
      const Value* value = row.find(metric->name);
      line.push_back(value ? entry_of(*value, row.cut_short) : "-");
    }
    if (name == "rq3") {
      for (const std::string& mark : row.marks) marks += notes->number(mark);
    }
    line.push_back(marks);
    rows.push_back(std::move(line));
  }
  return to_aligned(without_empty_lines(layout.header), rows, 2);
}

std::string times_of(const Report& report, const std::string& subject, Notes* notes) {
  std::vector<std::string> phases;
  for (const ApproachReport& row : report.rows) {
    if (row.cell.subject != subject) continue;
    for (const TimeGroup& group : row.times) {
      for (const Value& value : group.values) phases.push_back(value.metric);
    }
  }
  std::sort(phases.begin(), phases.end());
  phases.erase(std::unique(phases.begin(), phases.end()), phases.end());
  // only the phases that all approaches have; rq4.csv has those that an approach names as well
  std::erase_if(phases, [](const std::string& phase) {
    static const std::vector<std::string> common = {"TIME", "TIME_load", "TIME_predict", "TIME_attack"};
    return std::find(common.begin(), common.end(), phase) == common.end();
  });
  Layout layout;
  for (const char* title : {"approach", "status", "runs"}) layout.plain(title);
  for (const std::string& phase : phases) layout.column(phase, "seconds");
  layout.plain("notes");
  std::vector<Row> rows;
  for (const ApproachReport& row : report.rows) {
    if (row.cell.subject != subject) continue;
    if (row.times.empty()) {
      Row line = {row.cell.approach, row.status, "0"};
      line.resize(3 + phases.size(), "-");
      line.push_back(notes->number(row.reason));
      rows.push_back(std::move(line));
    }
    for (const TimeGroup& group : row.times) {
      Row line = {row.cell.approach, row.status, std::to_string(group.values.front().runs.size())};
      for (const std::string& phase : phases) {
        const auto value = std::find_if(group.values.begin(), group.values.end(),
                                        [&](const Value& one) { return one.metric == phase; });
        const bool marked = group.cut_short && phase == "TIME";
        line.push_back(value == group.values.end() ? "-" : entry_of(*value, marked));
      }
      std::string device = group.device.empty() ? "" : "device: " + group.machine();
      if (group.workers > 1) device += ", " + std::to_string(group.workers) + " workers at once";
      line.push_back(notes->number(row.reason) + notes->number(device));
      rows.push_back(std::move(line));
    }
  }
  return to_aligned(without_empty_lines(layout.header), rows, 2);
}

std::string legend(const Report& report) {
  std::vector<Row> rows;
  for (const ApproachReport& row : report.rows) {
    Row line = {row.cell.approach, row.name, to_text(row.level), to_text(row.basis)};
    if (std::find(rows.begin(), rows.end(), line) == rows.end()) rows.push_back(std::move(line));
  }
  return to_aligned({}, rows, 4);
}

}  // namespace

std::string tables_text(const Report& report) {
  Notes notes;
  std::string text;
  if (report.limited > 0) text += "LIMITED: these tables come from part of the data (--limit)\n\n";
  text += applicability(report, &notes);
  for (const std::string& subject : report.subjects()) {
    std::string model;
    for (const ApproachReport& row : report.rows) {
      if (row.cell.subject == subject) model = row.cell.model;
    }
    const std::string where = ": " + subject + ", " + model;
    text += "\nRQ2 effectiveness" + where + "\n\n" + metrics_of(report, subject, "rq2", &notes);
    text += "\nRQ3 side effects" + where + "\n\n" + metrics_of(report, subject, "rq3", &notes);
    text += "\nRQ4 efficiency" + where + "\n\n" + times_of(report, subject, &notes);
  }
  if (!notes.text().empty()) text += "\nNotes\n\n" + notes.text();
  if (std::any_of(report.rows.begin(), report.rows.end(),
                  [](const ApproachReport& row) { return row.cut_short; })) {
    text += kCutShortLegend;
  }
  text += "\nApproaches\n\n" + legend(report);
  text += "\nCoverage: " + report.coverage() + "\n";
  return text;
}

}  // namespace harness::report
