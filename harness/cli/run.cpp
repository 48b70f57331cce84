#include <cerrno>
#include <iostream>

#include "harness/approach/approach.hpp"
#include "harness/cli/commands.hpp"
#include "harness/cli/common.hpp"
#include "harness/core/files.hpp"
#include "harness/core/stop_signals.hpp"
#include "harness/pool/engine.hpp"
#include "harness/report/tables.hpp"

namespace harness::cli {
namespace {

constexpr size_t kShownFailures = 10;

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

// Refuses to replace results of all the data, which may have taken days, by a trial run on a part of it.
void spare_whole_results(const Config& config, const ResultsTree& tree, const plan::Workload& work) {
  if (config.limit.empty()) return;
  const auto whole = std::count_if(work.records.begin(), work.records.end(),
                                   [](const auto& record) { return record && !record->limited; });
  if (whole == 0) return;
  throw UserError({"command line", "--limit",
                   "results of all the data in " + tree.root().string() + " (" + std::to_string(whole) +
                       (whole == 1 ? " cell)" : " cells)"),
                   "--results with another folder for a run on part of the data", ""});
}

void demand_match(const std::string& option, const std::optional<std::string>& glob,
                  const std::vector<plan::PlanEntry>& plan) {
  if (!glob) return;
  for (const plan::PlanEntry& entry : plan) {
    if (plan::matches(*glob, entry.planned.cell.text())) return;
  }
  throw UserError({"command line", option, '"' + *glob + '"',
                   "a pattern of subject/approach/run that fits a cell of the plan", ""});
}

std::string quoted(const std::string& word) {
  const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,+@%";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  std::string text = "'";
  for (const char letter : word) text += letter == '\'' ? std::string("'\\''") : std::string(1, letter);
  return text + "'";
}

// The command that computes exactly this cell again.
std::string command_for(const Arguments& arguments, const std::string& id) {
  std::string text = quoted(program_invocation_name) + " " + quoted(arguments.positional(0));
  for (const char* option : {"results", "device", "threads", "limit"}) {
    if (const auto value = arguments.text(option)) text += std::string(" --") + option + " " + quoted(*value);
  }
  for (const std::string& value : arguments.list("set")) text += " --set " + quoted(value);
  return text + " --only " + quoted(id) + " --redo " + quoted(id);
}

std::string counts(const std::map<std::string, int64_t>& statuses) {
  std::string text;
  int64_t all = 0;
  for (const auto& [status, count] : statuses) {
    all += count;
    text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + status;
  }
  return std::to_string(all) + " cells: " + text;
}

void say_summary(const Arguments& arguments, const ResultsTree& tree, const pool::RunSummary& summary,
                 pool::Progress& progress) {
  progress.say(counts(summary.statuses));
  for (size_t k = 0; k < std::min(kShownFailures, summary.failures.size()); ++k) {
    const auto& [id, reason] = summary.failures[k];
    progress.say("  " + id + " " + reason + "\n    again: " + command_for(arguments, id));
  }
  if (summary.failures.size() > kShownFailures) {
    progress.say("  and " + std::to_string(summary.failures.size() - kShownFailures) +
                 " more: harness status names them");
  }
  if (!summary.failures.empty()) {
    progress.say("  each has a log.txt beside its record in " + (tree.root() / "cells").string());
  }
}

void say_start(const plan::Workload& work, const std::vector<plan::PlanEntry>& plan,
               pool::Progress& progress) {
  std::string line =
      std::to_string(work.selected.size()) + " cells, " + std::to_string(work.todo.size()) + " to do";
  const auto stale = work.states.find(CellState::stale);
  if (stale != work.states.end()) {
    line += ", " + std::to_string(stale->second) + " stale (made by another version of the approach; --redo)";
  }
  progress.say(line);
  for (const auto& [place, damage] : work.damaged) {
    progress.say(plan[place].planned.cell.text() + " is computed again: " + to_text(damage));
  }
}

// What became of the tables. The message is printed where it happens.
enum class Tables { written, not_written, damaged };

// In a shard, only the process that finds all cells done writes the tables, which is the last one.
Tables write_and_print_tables(const ResultsTree& tree, const std::vector<plan::PlanEntry>& plan, bool is_part,
                              pool::Progress& progress) {
  try {
    const report::Report report = report::make_report(tree, plan::cells_of(plan));
    if (is_part && report.missing + report.outdated > 0) {
      progress.say("tables: left to the shard that ends last (" + report.coverage() + ")");
      return Tables::written;
    }
    std::cout << report::tables_text(report) << std::flush;
    report::write_tables(tree, report);
  } catch (const ResultsError& error) {
    print_damage(error);
    return Tables::damaged;
  } catch (const UserError& error) {  // such as a full disk, which is no error of usage
    std::cerr << error.what() << "\n";
    return Tables::not_written;
  }
  progress.say("tables: " + tree.tables().string());
  return Tables::written;
}

// An interruption comes first: whatever else happened, the same command continues.
int exit_code(const pool::RunSummary& summary, Tables tables) {
  if (summary.interrupted) return 3;
  if (tables == Tables::damaged) return 4;
  return summary.failed || tables == Tables::not_written ? 1 : 0;
}

int run(const Arguments& arguments) {
  const plan::Selection selection = {.only = arguments.text("only"),
                                     .redo = arguments.text("redo"),
                                     .retry = codes_of(arguments),
                                     .shard = plan::choose_shard(arguments.text("shard"))};
  const Config config = configured(arguments, true);
  const bool quiet = arguments.has("quiet");
  pool::Progress progress(quiet ? pool::Progress::Form::silent : pool::Progress::form_of_standard_error());
  const pool::RunOptions options = {.device = choose_device(config.device),
                                    .jobs = arguments.integer("jobs", 1).value_or(1),
                                    .threads = arguments.integer("threads", 1, kMaxThreads).value_or(0)};
  if (!options.device.note.empty()) progress.say(options.device.note);
  const ResultsTree tree = tree_of(arguments, config);
  load_digests(tree.digests());
  // left by processes that were killed; those in a cell's folder are removed when it is computed
  for (const std::filesystem::path& folder : {tree.root(), tree.tables()}) remove_half_written(folder);
  const std::vector<plan::PlanEntry> plan =
      plan::make_plan(config, approach_catalog(), options.device.kind());
  demand_match("--only", selection.only, plan);
  demand_match("--redo", selection.redo, plan);
  const std::optional<plan::FrozenPlan> frozen = plan::read_plan(tree, plan);
  RecordIndex index(tree);
  const plan::Workload work = plan::choose_work(config, tree, index, plan, frozen, selection);
  spare_whole_results(config, tree, work);
  // tasks of an array read the plan and never write it
  if (!frozen && !selection.shard.is_part()) {
    plan::write_plan(tree, config, plan, plan::freeze(plan, plan::expected_costs(plan, work.records), 0));
  }
  save_digests(tree.digests());
  install_stop_signals(false);
  say_start(work, plan, progress);
  const pool::RunSummary summary = pool::run_plan(config, tree, plan, work, options, progress);
  for (const plan::Task& task : work.todo) index.look(plan[task.place].planned);
  index.save();
  if (quiet) {  // said in any case, as results are missing
    for (const std::string& line : summary.errors) std::cerr << line << "\n";
  }
  const Tables written = write_and_print_tables(tree, plan, selection.shard.is_part(), progress);
  say_summary(arguments, tree, summary, progress);
  if (summary.interrupted) progress.say("interrupted; the same command continues");
  return exit_code(summary, written);
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
            {"jobs", OptionKind::single, "N", "cells at a time on the CPU, the threads divided (default 1)"},
            limit_option(),
            {"only", OptionKind::single, "GLOB", "only these cells (over subject/approach/run)"},
            {"redo", OptionKind::single, "GLOB", "compute these cells again, also where they are finished"},
            {"retry", OptionKind::single, "CODES", "run these failures again: crashed,timeout,out_of_memory"},
            {"shard", OptionKind::single, "I/N", "part I of N, from 1 (default: Slurm's array variables)"},
            quiet_option()}},
          run};
}

}  // namespace harness::cli
