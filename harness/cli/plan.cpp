#include <iostream>
#include <set>

#include "harness/approach/approach.hpp"
#include "harness/cell/cell.hpp"
#include "harness/cli/commands.hpp"
#include "harness/cli/common.hpp"
#include "harness/cli/standing.hpp"
#include "harness/core/files.hpp"
#include "harness/plan/plan_file.hpp"
#include "harness/plan/shards.hpp"
#include "harness/store/lease.hpp"

namespace harness::cli {
namespace {

struct PlanRow {
  const plan::PlanEntry* entry = nullptr;
  CellState state = CellState::missing;
  std::string shown, because;  // the state in words, and the reason for it
  std::optional<RecordSummary> record;
  plan::Cost cost;
  bool is_open() const { return state != CellState::finished && state != CellState::stale; }
};

constexpr size_t kShownDifferences = 5;

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (size_t k = 0; k < std::min(parts.size(), kShownDifferences); ++k)
    text += (k > 0 ? "; " : "") + parts[k];
  if (parts.size() > kShownDifferences) {
    text += "; and " + std::to_string(parts.size() - kShownDifferences) + " more";
  }
  return text;
}

nlohmann::json recorded_identity(const ResultsTree& tree, const CellId& cell) {
  const std::optional<Record> record = tree.look(cell).record;
  return record ? record->identity() : nlohmann::json();
}

void explain(const ResultsTree& tree, const std::optional<Problem>& damage, PlanRow* row) {
  const bool running = row->is_open() && Lease::seems_alive(tree.cell(row->entry->planned.cell));
  switch (row->state) {
    case CellState::missing:
      row->shown = "missing";
      break;
    case CellState::finished:
      row->shown = row->record->status == Status::failure ? "failed" : "done";
      break;
    case CellState::stale:
    case CellState::outdated:
      row->shown = "stale";
      row->because = joined(differences(recorded_identity(tree, row->entry->planned.cell),
                                        row->entry->planned.identity)) +
                     (row->state == CellState::stale ? "; kept until --redo" : "");
      break;
    case CellState::damaged:
      row->shown = "damaged";
      row->because = to_text(*damage);
      break;
  }
  if (running) row->shown = "running";
}

std::vector<PlanRow> rows_of(const std::vector<plan::PlanEntry>& plan, const ResultsTree& tree,
                             RecordIndex& index) {
  std::vector<PlanRow> rows;
  std::vector<std::optional<RecordSummary>> records;
  for (const plan::PlanEntry& entry : plan) {
    PlanRow row;
    row.entry = &entry;
    RecordIndex::Found found = index.look(entry.planned);
    row.record = std::move(found.summary);
    row.state = found.state;
    explain(tree, found.damage, &row);
    records.push_back(row.record);
    rows.push_back(std::move(row));
  }
  const std::vector<plan::Cost> costs = plan::expected_costs(plan, records);
  for (size_t i = 0; i < rows.size(); ++i) rows[i].cost = costs[i];
  return rows;
}

// Bytes that a full run keeps: fixed models, each as large as its original, and the files of each cell.
std::uintmax_t expected_bytes(const Config& config, const std::vector<plan::PlanEntry>& plan) {
  constexpr std::uintmax_t kRecordBytes = 40000;  // record, stages, log, predictions of a few thousand images
  std::uintmax_t bytes = 0;
  for (const plan::PlanEntry& entry : plan) {
    std::error_code absent;
    const std::uintmax_t size = std::filesystem::file_size(entry.subject->model, absent);
    bytes += kRecordBytes;
    if (entry.approach != nullptr && plan::keeps_model(config, entry) && !absent) bytes += size;
  }
  return bytes;
}

// "9 cells: 6 done, 3 missing"
std::string states_of(const std::vector<PlanRow>& rows) {
  std::map<std::string, int64_t> states;
  for (const PlanRow& row : rows) ++states[row.shown];
  std::string text = std::to_string(rows.size()) + " cells:";
  for (const auto& [state, count] : states) {
    text += std::string(&state == &states.begin()->first ? " " : ", ") + std::to_string(count) + " " + state;
  }
  return text;
}

bool any_damaged(const std::vector<PlanRow>& rows) {
  return std::any_of(rows.begin(), rows.end(),
                     [](const PlanRow& row) { return row.state == CellState::damaged; });
}

std::string summary_of(const Config& config, const std::vector<plan::PlanEntry>& plan,
                       const std::vector<PlanRow>& rows) {
  std::map<std::string, int64_t> sources;
  double seconds = 0;
  for (const PlanRow& row : rows) {
    if (!row.is_open()) continue;
    seconds += row.cost.seconds.value_or(0);
    ++sources[row.cost.source.empty() ? "unknown, not counted" : "from " + row.cost.source];
  }
  std::string text = states_of(rows);
  char line[256];
  std::snprintf(line, sizeof line, "\ntime to go: %.2f hours on one device", seconds / 3600);
  text += line;
  for (const auto& [source, count] : sources) {
    text += (&source == &sources.begin()->first ? " (cells: " : ", ") + std::to_string(count) + " " + source;
  }
  if (!sources.empty()) text += ")";
  std::snprintf(line, sizeof line,
                "\ndisk: about %.1f MB for all cells; fixed models as large as their originals\n",
                static_cast<double>(expected_bytes(config, plan)) / 1e6);
  return text + line;
}

// Why a cell has its status, and which checks its result fails.
std::string reason_of(const PlanRow& row) {
  if (!row.record) return "";
  const std::string& reason = row.record->reason;
  if (row.record->failed_checks.empty() || row.record->status != Status::ok) return reason;
  return reason + (reason.empty() ? "" : "; ") + "mistrusted: " + row.record->failed_checks;
}

report::Table table_of(const std::vector<PlanRow>& rows) {
  report::Table table{"plan", {"id", "state", "status", "estimate_s", "reason", "because"}, {}};
  for (const PlanRow& row : rows) {
    table.rows.push_back(
        {row.entry->planned.cell.text(), row.shown, row.record ? to_text(row.record->status) : "",
         row.cost.seconds ? format_number(*row.cost.seconds) : "", reason_of(row), row.because});
  }
  return table;
}

nlohmann::json json_of(const std::vector<PlanRow>& rows) {
  nlohmann::json cells = nlohmann::json::array();
  for (const PlanRow& row : rows) {
    const CellId& cell = row.entry->planned.cell;
    cells.push_back(
        {{"id", cell.text()},
         {"subject", cell.subject},
         {"approach", cell.approach},
         {"run", cell.run},
         {"state", row.shown},
         {"because", row.because},
         {"status", row.record ? nlohmann::json(to_text(row.record->status)) : nlohmann::json()},
         {"reason", reason_of(row)},
         {"estimate_s", row.cost.seconds ? nlohmann::json(*row.cost.seconds) : nlohmann::json()}});
  }
  return {{"cells", cells}};
}

void print(const std::vector<PlanRow>& rows, const std::string& format, const std::string& summary) {
  if (format == "json") {
    std::cout << json_of(rows).dump(2) << "\n";
    return;
  }
  report::Table table = table_of(rows);
  if (format == "csv") {
    std::cout << report::to_csv(table);
    return;
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    char seconds[32] = "";
    if (rows[i].cost.seconds) std::snprintf(seconds, sizeof seconds, "%.1f", *rows[i].cost.seconds);
    table.rows[i][3] = seconds;
  }
  print_table(table, "text");
  std::cout << "\n" << summary;
}

// An array has one task for each cell by default, up to a number that every scheduler accepts.
constexpr int64_t kMaxShards = 64;

int64_t wanted_shards(const Arguments& arguments, size_t cells) {
  const auto given = arguments.integer("shards", 1);
  if (given && !arguments.has("array")) {
    throw UserError({"command line", "--shards", std::to_string(*given), "--array with it", ""});
  }
  if (!arguments.has("array")) return 0;
  return std::min<int64_t>(given.value_or(kMaxShards), std::max<int64_t>(1, static_cast<int64_t>(cells)));
}

// The frozen plan. It is made anew where there is none for these cells, or where the user divides it in
// another way. Otherwise a divided plan stays as it is, because tasks may be working by it.
plan::FrozenPlan freeze_plan(const Arguments& arguments, const ResultsTree& tree, const Config& config,
                             const std::vector<plan::PlanEntry>& plan, const std::vector<PlanRow>& rows) {
  const int64_t shards = wanted_shards(arguments, plan.size());
  const std::optional<plan::FrozenPlan> known = plan::read_plan(tree, plan);
  const bool as_before = known && (!arguments.has("array") || known->shards == shards ||
                                   (known->shards > 0 && !arguments.has("shards")));
  if (as_before && (known->shards > 0 || arguments.has("array"))) return *known;
  std::vector<plan::Cost> costs;
  for (const PlanRow& row : rows) costs.push_back(row.cost);
  plan::FrozenPlan frozen = plan::freeze(plan, costs, shards);
  plan::write_plan(tree, config, plan, frozen);
  return frozen;
}

// Prints one line for sbatch --array: all tasks, or those with cells that are not done.
void print_array(const plan::FrozenPlan& frozen, const std::vector<PlanRow>& rows, bool missing_only) {
  std::set<int64_t> tasks;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!missing_only || rows[i].is_open()) tasks.insert(frozen.shard[i]);
  }
  std::cout << plan::array_range({tasks.begin(), tasks.end()}) << "\n";
}

int show_plan(const Arguments& arguments) {
  const Config config = configured(arguments, true);
  const std::string format = arguments.choice("format", {"text", "csv", "json"});
  const ResultsTree tree = tree_of(arguments, config);
  load_digests(tree.digests());
  const auto plan = plan::make_plan(config, approach_catalog(), device_class(config.device));
  RecordIndex index(tree);
  std::vector<PlanRow> rows = rows_of(plan, tree, index);
  index.save();
  const plan::FrozenPlan frozen = freeze_plan(arguments, tree, config, plan, rows);
  save_digests(tree.digests());
  if (arguments.has("array")) {
    print_array(frozen, rows, arguments.has("missing"));
    return 0;
  }
  const std::string summary = summary_of(config, plan, rows);
  if (arguments.has("missing")) std::erase_if(rows, [](const PlanRow& row) { return !row.is_open(); });
  print(rows, format, summary);
  return 0;
}

int show_status(const Arguments& arguments) {
  const Config config = configured(arguments, false);
  const std::string format = arguments.choice("format", {"text", "csv", "json"});
  const ResultsTree tree = tree_of(arguments, config);
  load_digests(tree.digests());
  const auto plan = plan::make_plan(config, approach_catalog(), device_class(config.device));
  RecordIndex index(tree);
  const std::vector<PlanRow> rows = rows_of(plan, tree, index);
  print(rows, format, summary_of(config, plan, rows));
  return any_damaged(rows) ? 4 : 0;
}

}  // namespace

Standing standing_of(const Config& config, const ResultsTree& tree) {
  load_digests(tree.digests());
  const auto plan = plan::make_plan(config, approach_catalog(), device_class(config.device));
  RecordIndex index(tree);
  const std::vector<PlanRow> rows = rows_of(plan, tree, index);
  Standing standing{.counts = states_of(rows), .because = {}, .damaged = any_damaged(rows)};
  for (const PlanRow& row : rows) {
    if (row.because.empty()) continue;
    standing.because.push_back(row.entry->planned.cell.text() + " " + row.shown + ": " + row.because);
  }
  return standing;
}

Command plan_command() {
  return {{"plan",
           "Lists all cells and writes plan.json; time and disk still to be expected.",
           {"CONFIG"},
           {results_option(),
            set_option(),
            device_option(),
            limit_option(),
            format_option(),
            {"missing", OptionKind::flag, "", "only cells, or tasks of the array, that are not done yet"},
            {"array", OptionKind::flag, "", "divide the plan and print the range for sbatch --array"},
            {"shards", OptionKind::single, "N", "tasks of the array (default: one a cell, at most 64)"}}},
          show_plan};
}

Command status_command() {
  return {{"status",
           "Says how far a run has come; writes nothing.",
           {"CONFIG"},
           {results_option(), set_option(), device_option(), limit_option(), format_option()}},
          show_status};
}

}  // namespace harness::cli
