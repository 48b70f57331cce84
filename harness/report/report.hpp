#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "harness/measure/metrics/metric.hpp"
#include "harness/store/results.hpp"

namespace harness::report {

// One planned cell and its record. Outdated records are left out, as they belong to another configuration.
struct RunCell {
  PlannedCell planned;
  CellState state = CellState::missing;
  std::optional<Record> record;  // finished and stale cells
  bool other_limit = false;      // outdated, as it was made from another part of the data (--limit)
  bool ok() const { return record && record->status == Status::ok; }
};

// Values of one metric, one for each ok run that has it.
struct Value {
  std::string metric, unit, table;
  metrics::Better better = metrics::Better::neither;
  bool joint = false;
  std::vector<double> runs;
  std::string reason;  // why there is no value
  std::optional<double> mean() const;
  std::optional<double> deviation() const;  // with n-1; nothing for one run
};

// Times of the ok runs that are comparable: same device model, number of threads and number of concurrent
// workers.
struct TimeGroup {
  std::string device;
  int64_t threads = 0;                     // 0: unknown, as in old records
  int64_t workers = 1, interruptions = 0;  // interruptions: of all runs together
  bool cut_short = false;                  // as of ApproachReport, for these runs
  std::vector<Value> values;               // TIME, then TIME_<phase> sorted
  std::string machine() const;             // "CPU X, 2 cores, 1 thread": device and threads
};

// One approach on one subject.
struct ApproachReport {
  CellId cell;  // its `run` is not used
  std::string name;
  Level level = Level::control;
  Basis basis = Basis::none;
  std::vector<RunCell> runs;
  std::string status;              // "ok" if any run is, else the most severe; or "missing"
  std::string reason;              // why it is not ok, and notes on what is not as planned
  std::vector<std::string> marks;  // for the attack metrics: "gradient masking: ..."
  int64_t recorded = 0, ok_runs = 0;
  bool cut_short = false;        // a budget ended the fix of an ok run, which would have gone on
  std::vector<Value> values;     // every metric, in registry order; empty unless ok
  std::vector<TimeGroup> times;  // empty unless ok
  const Value* find(const std::string& metric) const;  // of `values`
  std::string reason_of(const Value& value) const;     // its own reason, marks and those of the row
};

// All rows, sorted by subject; for each subject first approaches, then published models, then controls, by
// name.
struct Report {
  std::vector<ApproachReport> rows;
  int64_t planned = 0, recorded = 0, missing = 0, outdated = 0, stale = 0, limited = 0, mistrusted = 0;
  int64_t other_limit = 0;  // how many outdated ones differ in --limit
  std::vector<std::string> subjects() const;
  std::string coverage() const;  // one line
};

// The names of the checks that a record fails: "mistrusted: random_output, untouched".
std::string mistrust(const Record& record);

// The mark of a fix that a budget ended: "cut_short: 60 s"; empty: none did.
std::string cut_short_mark(const Record& record);

// Made from the records, and from the attack flags beside them for joint metrics. Throws ResultsError.
Report make_report(const ResultsTree& tree, const std::vector<PlannedCell>& plan);

}  // namespace harness::report
