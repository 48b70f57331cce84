#include "harness/report/tables.hpp"

#include <iostream>

#include "harness/approach/approach.hpp"
#include "harness/cli/commands.hpp"
#include "harness/cli/common.hpp"
#include "harness/core/error.hpp"
#include "harness/plan/plan.hpp"

namespace harness::cli {
namespace {

const std::vector<std::string> kFormats = {"text", "csv", "json"};

std::vector<report::Table> chosen(const report::Report& report, const std::optional<std::string>& name) {
  std::vector<report::Table> tables = report::all_tables(report);
  if (!name) return tables;
  std::vector<std::string> names;
  for (const report::Table& table : tables) {
    if (table.name == *name) return {table};
    names.push_back(table.name);
  }
  std::string expected;
  for (const std::string& known : names) expected += (expected.empty() ? "" : ", ") + known;
  throw UserError(
      {"command line", "--table", '"' + *name + '"', "one of " + expected, nearest_name(*name, names)});
}

int tables(const Arguments& arguments) {
  const std::string format = arguments.choice("format", kFormats);
  const Config config = configured(arguments, false);
  const ResultsTree tree = tree_of(arguments, config);
  // any device will do, as tables show the device of each record
  const auto plan = plan::make_plan(config, approach_catalog(), "cpu");
  const report::Report report = report::make_report(tree, plan::cells_of(plan));
  const auto name = arguments.text("table");
  const std::vector<report::Table> some = chosen(report, name);
  report::write_tables(tree, report);
  if (format == "text" && !name) {
    std::cout << report::tables_text(report);
  } else if (format == "json" && !name) {
    nlohmann::json all = {{"coverage", report.coverage()}};
    for (const report::Table& table : some) all[table.name] = to_json(table);
    std::cout << all.dump(2) << "\n";
  } else {
    for (const report::Table& table : some) {
      if (some.size() > 1) std::cout << (&table == &some.front() ? "# " : "\n# ") << table.name << ".csv\n";
      print_table(table, format);
    }
  }
  std::cerr << "coverage: " << report.coverage() << "\n";
  return 0;
}

}  // namespace

Command tables_command() {
  return {
      {"tables",
       "Writes the tables again from the records and prints them.",
       {"CONFIG"},
       {results_option(),
        set_option(),
        limit_option(),
        format_option(),
        {"table", OptionKind::single, "NAME", "only this one: rq1 ... rq4, rq1_wide ..., runs, summary"}}},
      tables};
}

}  // namespace harness::cli
