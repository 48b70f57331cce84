#include <iostream>
#include <numeric>

#include "approaches/approach.hpp"
#include "harness/cli/commands.hpp"
#include "harness/cli/common.hpp"
#include "harness/core/files.hpp"
#include "harness/run/plan.hpp"

namespace harness {
namespace {

struct PlanRow {
  const PlanEntry* entry = nullptr;
  CellState state = CellState::missing;
  std::optional<Record> record;
  std::optional<double> estimate;  // seconds
};

double seconds_of(const Record& record) {
  double sum = 0;
  for (const auto& [phase, seconds] : record.phases) {
    if (phase.rfind("fix_", 0) != 0) sum += seconds;  // parts of "fix"
  }
  return sum;
}

// What the cell itself took, else the mean of the recorded runs of the same approach and subject.
void estimate(std::vector<PlanRow>* rows) {
  std::map<std::pair<std::string, std::string>, std::pair<double, int64_t>> sums;
  for (const PlanRow& row : *rows) {
    if (!row.record) continue;
    auto& [seconds, count] = sums[{row.record->cell.subject, row.record->cell.approach}];
    seconds += seconds_of(*row.record);
    ++count;
  }
  for (PlanRow& row : *rows) {
    const CellId& cell = row.entry->planned.cell;
    const auto found = sums.find({cell.subject, cell.approach});
    if (row.record) {
      row.estimate = seconds_of(*row.record);
    } else if (found != sums.end()) {
      row.estimate = found->second.first / static_cast<double>(found->second.second);
    }
  }
}

std::vector<PlanRow> rows_of(const std::vector<PlanEntry>& plan, const ResultsTree& tree) {
  std::vector<PlanRow> rows;
  for (const PlanEntry& entry : plan) {
    PlanRow row{&entry, CellState::missing, tree.read(entry.planned.cell), std::nullopt};
    row.state = state_of(entry.planned, row.record, Compare::exact);
    rows.push_back(std::move(row));
  }
  estimate(&rows);
  return rows;
}

// Fixed models that a full run keeps: each as large as its original.
std::uintmax_t expected_bytes(const Config& config, const std::vector<PlanEntry>& plan) {
  std::uintmax_t bytes = 0;
  for (const PlanEntry& entry : plan) {
    const bool kept = config.keep == "all" || (config.keep == "first" && entry.planned.cell.run == 1);
    std::error_code absent;
    const std::uintmax_t size = std::filesystem::file_size(entry.subject->model, absent);
    if (entry.approach != nullptr && kept && !absent) bytes += size;
  }
  return bytes;
}

std::string summary_of(const Config& config, const std::vector<PlanEntry>& plan,
                       const std::vector<PlanRow>& rows) {
  std::map<CellState, int64_t> states;
  double seconds = 0;
  int64_t unknown = 0;
  for (const PlanRow& row : rows) {
    ++states[row.state];
    if (row.state == CellState::finished || row.state == CellState::stale) continue;
    if (row.estimate) seconds += *row.estimate;
    if (!row.estimate) ++unknown;
  }
  std::string text = std::to_string(rows.size()) + " cells:";
  for (const auto& [state, count] : states) text += " " + std::to_string(count) + " " + to_text(state);
  char line[256];
  std::snprintf(line, sizeof line,
                "\ntime to go: %.2f hours, from records of other runs; %lld cells without any\n",
                seconds / 3600, static_cast<long long>(unknown));
  text += line;
  std::snprintf(line, sizeof line, "disk: about %.1f MB of fixed models, each as large as its original\n",
                static_cast<double>(expected_bytes(config, plan)) / 1e6);
  return text + line;
}

Table table_of(const std::vector<PlanRow>& rows) {
  Table table{"plan", {"id", "state", "status", "estimate_s", "reason"}, {}};
  for (const PlanRow& row : rows) {
    table.rows.push_back(
        {row.entry->planned.cell.text(), to_text(row.state), row.record ? to_text(row.record->status) : "",
         row.estimate ? format_number(*row.estimate) : "", row.record ? row.record->reason : ""});
  }
  return table;
}

nlohmann::json json_of(const std::vector<PlanRow>& rows) {
  nlohmann::json cells = nlohmann::json::array();
  for (const PlanRow& row : rows) {
    const CellId& cell = row.entry->planned.cell;
    cells.push_back({{"id", cell.text()},
                     {"subject", cell.subject},
                     {"approach", cell.approach},
                     {"run", cell.run},
                     {"state", to_text(row.state)},
                     {"status", row.record ? nlohmann::json(to_text(row.record->status)) : nlohmann::json()},
                     {"estimate_s", row.estimate ? nlohmann::json(*row.estimate) : nlohmann::json()}});
  }
  return {{"cells", cells}};
}

void print(const std::vector<PlanRow>& rows, const std::string& format, const std::string& summary) {
  if (format == "json") {
    std::cout << json_of(rows).dump(2) << "\n";
    return;
  }
  Table table = table_of(rows);
  if (format == "csv") {
    std::cout << to_csv(table);
    return;
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    char seconds[32] = "";
    if (rows[i].estimate) std::snprintf(seconds, sizeof seconds, "%.1f", *rows[i].estimate);
    table.rows[i][3] = seconds;
  }
  print_table(table, "text");
  std::cout << "\n" << summary;
}

int show_plan(const Arguments& arguments) {
  const Config config = configured(arguments, true);
  const std::string format = arguments.choice("format", {"text", "csv", "json"});
  const ResultsTree tree = tree_of(arguments, config);
  const auto plan = make_plan(config, approach_catalog(), choose_device(config.device).kind());
  write_plan(tree, config, plan);
  std::vector<PlanRow> rows = rows_of(plan, tree);
  const std::string summary = summary_of(config, plan, rows);
  if (arguments.has("missing")) {
    std::erase_if(rows, [](const PlanRow& row) {
      return row.state == CellState::finished || row.state == CellState::stale;
    });
  }
  print(rows, format, summary);
  return 0;
}

int show_status(const Arguments& arguments) {
  const Config config = configured(arguments, false);
  const std::string format = arguments.choice("format", {"text", "csv", "json"});
  const auto plan = make_plan(config, approach_catalog(), choose_device(config.device).kind());
  const std::vector<PlanRow> rows = rows_of(plan, tree_of(arguments, config));
  print(rows, format, summary_of(config, plan, rows));
  return 0;
}

}  // namespace

Command plan_command() {
  return {{"plan",
           "Lists all cells and writes plan.json; time and disk still to be expected.",
           {"CONFIG"},
           {results_option(),
            set_option(),
            device_option(),
            limit_option(),
            format_option(),
            {"missing", OptionKind::flag, "", "only cells that have no result yet"}}},
          show_plan};
}

Command status_command() {
  return {{"status",
           "Says how far a run has come; writes nothing.",
           {"CONFIG"},
           {results_option(), set_option(), device_option(), limit_option(), format_option()}},
          show_status};
}

}  // namespace harness
