#pragma once

#include <string>
#include <vector>

#include "harness/report/report.hpp"
#include "harness/report/table.hpp"

namespace harness::report {

// Long form: one row per value (results/README.md).
Table applicability_table(const Report& report);                    // rq1
Table metric_table(const Report& report, const std::string& name);  // rq2, rq3
Table time_table(const Report& report);                             // rq4
Table runs_table(const Report& report);                             // runs: every single run
// Wide form, as in the paper: one row per approach, columns subject x metric, entries the mean or the status.
Table wide_table(const Report& report, const std::string& name);  // rq1 ... rq4
// One row per subject and approach; says which approaches are Pareto-optimal.
Table summary_table(const Report& report);

std::vector<Table> all_tables(const Report& report);

// Writes <results>/tables/*.csv and sources.json (the digest of every record they come from).
void write_tables(const ResultsTree& tree, const Report& report);

// For people: one aligned table per question and subject, notes, full names, coverage.
std::string tables_text(const Report& report);

}  // namespace harness::report
