#include <iostream>

#include "approaches/approach.hpp"
#include "harness/cli/commands.hpp"
#include "harness/cli/common.hpp"
#include "harness/report/tables.hpp"
#include "harness/run/engine.hpp"
#include "harness/run/stop.hpp"

namespace harness {
namespace {

std::set<std::string> codes_of(const Arguments& arguments) {
  static const std::vector<std::string> known = {"crashed", "timeout", "out_of_memory", "no_fix"};
  std::set<std::string> codes;
  std::istringstream parts(arguments.text("retry").value_or(""));
  for (std::string part; std::getline(parts, part, ',');) {
    if (std::find(known.begin(), known.end(), part) == known.end()) {
      throw UserError({"command line", "--retry", '"' + part + '"',
                       "codes of FAILURE: crashed, timeout, out_of_memory, no_fix",
                       nearest_name(part, known)});
    }
    codes.insert(part);
  }
  return codes;
}

// A dry run on part of the data would take the place of results that may have cost days.
void spare_whole_results(const Config& config, const ResultsTree& tree, const std::vector<PlanEntry>& plan) {
  if (config.limit.empty()) return;
  int64_t whole = 0;
  for (const PlanEntry& entry : plan) {
    const std::optional<Record> record = tree.read(entry.planned.cell);
    whole += record && !record->limited;
  }
  if (whole == 0) return;
  throw UserError({"command line", "--limit",
                   "results of all the data in " + tree.root().string() + " (" + std::to_string(whole) +
                       (whole == 1 ? " cell)" : " cells)"),
                   "--results with another folder for a run on part of the data", ""});
}

void demand_match(const std::string& option, const std::optional<std::string>& glob,
                  const std::vector<PlanEntry>& plan) {
  if (!glob) return;
  for (const PlanEntry& entry : plan) {
    if (matches(*glob, entry.planned.cell.text())) return;
  }
  throw UserError({"command line", option, '"' + *glob + '"',
                   "a pattern of subject/approach/run that fits a cell of the plan", ""});
}

int run(const Arguments& arguments) {
  const Selection selection = {.only = arguments.text("only"),
                               .redo = arguments.text("redo"),
                               .retry = codes_of(arguments),
                               .shard = choose_shard(arguments.text("shard"))};
  const Config config = configured(arguments, true);
  const DeviceChoice device = prepare_device(config, arguments);
  const ResultsTree tree = tree_of(arguments, config);
  const std::vector<PlanEntry> plan = make_plan(config, approach_catalog(), device.kind());
  demand_match("--only", selection.only, plan);
  demand_match("--redo", selection.redo, plan);
  spare_whole_results(config, tree, plan);
  write_plan(tree, config, plan);
  install_stop_signals();
  const RunSummary summary = run_plan(config, tree, plan, selection, device, reporter(arguments));
  if (arguments.has("quiet")) {  // this is no progress: results are missing
    for (const std::string& line : summary.troubles) std::cerr << line << "\n";
  }
  const Report report = make_report(tree, cells_of(plan));
  std::cout << tables_text(report) << std::flush;
  try {
    write_tables(tree, report);
  } catch (const ResultsError&) {
    throw;
  } catch (const UserError& error) {  // a disk that was full before: no fault of the command line
    if (summary.troubles.empty()) throw;
    std::cerr << error.what() << "\n";
    return 1;
  }
  reporter(arguments)("tables: " + tree.tables().string());
  if (summary.interrupted) {
    reporter(arguments)("interrupted; the same command continues");
    return 3;
  }
  return summary.trouble ? 1 : 0;
}

}  // namespace

Command run_command() {
  return {{"run",
           "Runs what is not finished yet, then writes and prints the tables.",
           {"CONFIG"},
           {results_option(),
            set_option(),
            device_option(),
            threads_option(),
            limit_option(),
            {"only", OptionKind::single, "GLOB", "only these cells (over subject/approach/run)"},
            {"redo", OptionKind::single, "GLOB", "compute these cells again, also where they are finished"},
            {"retry", OptionKind::single, "CODES", "run these failures again: crashed,timeout,out_of_memory"},
            {"shard", OptionKind::single, "I/N", "part I of N, from 1 (default: Slurm's array variables)"},
            quiet_option()}},
          run};
}

}  // namespace harness
