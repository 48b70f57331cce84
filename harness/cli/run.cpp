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

int run(const Arguments& arguments) {
  const Selection selection = {.only = arguments.text("only"),
                               .redo = arguments.text("redo"),
                               .retry = codes_of(arguments),
                               .shard = choose_shard(arguments.text("shard"))};
  const Config config = configured(arguments, true);
  const DeviceChoice device = prepare_device(config, arguments);
  const ResultsTree tree = tree_of(arguments, config);
  const std::vector<PlanEntry> plan = make_plan(config, approach_catalog(), device.kind());
  write_plan(tree, config, plan);
  install_stop_signals();
  const RunSummary summary = run_plan(config, tree, plan, selection, device, reporter(arguments));
  const Report report = make_report(tree, cells_of(plan));
  write_tables(tree, report);
  if (!arguments.has("quiet")) std::cout << tables_text(report) << std::flush;
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
