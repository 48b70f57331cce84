#include "harness/core/files.hpp"
#include "harness/report/tables.hpp"

namespace harness::report {

std::vector<Table> all_tables(const Report& report) {
  return {applicability_table(report), metric_table(report, "rq2"), metric_table(report, "rq3"),
          time_table(report),          wide_table(report, "rq1"),   wide_table(report, "rq2"),
          wide_table(report, "rq3"),   wide_table(report, "rq4"),   runs_table(report),
          summary_table(report)};
}

void write_tables(const ResultsTree& tree, const Report& report) {
  make_folders(tree.tables());
  for (const Table& table : all_tables(report)) {
    write_atomically(tree.tables() / (table.name + ".csv"), to_csv(table));
  }
  nlohmann::json records = nlohmann::json::object();
  for (const ApproachReport& row : report.rows) {
    for (const RunCell& run : row.runs) {
      if (!run.record) continue;
      records[run.planned.cell.text()] = digest_of(read_text(tree.record(run.planned.cell)));
    }
  }
  const nlohmann::json sources = {
      {"schema", kRecordSchema}, {"coverage", report.coverage()}, {"records", records}};
  write_atomically(tree.tables() / "sources.json", sources.dump(1) + "\n");
}

}  // namespace harness::report
