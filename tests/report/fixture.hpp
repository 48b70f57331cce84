#pragma once

#include "harness/report/report.hpp"
#include "tests/support.hpp"

namespace harness::testing {

// A results tree that is written record by record, without any run.
class Results {
 public:
  ResultsTree tree() const { return ResultsTree(folder_.path()); }

  // Planned only: its record is missing.
  PlannedCell& plan(const std::string& approach, int64_t run, Level level = Level::neuron);

  // Ten test images of two classes, all of class 0, of which the original has `original` wrong and the fixed
  // model `fixed`; every registered metric is computed. Runs with `attacked` images have an attack on them
  // that succeeds for the original on all and for the fixed model on those in `succeeded`.
  struct Outcome {
    std::vector<int> original, fixed, attacked, succeeded;
  };
  Record& ok(const std::string& approach, int64_t run, const Outcome& outcome, double seconds,
             Level level = Level::neuron);
  Record& other(const std::string& approach, int64_t run, Status status, const std::string& reason);

  // Writes all records and returns the report.
  report::Report report() const;
  const std::vector<PlannedCell>& planned() const { return planned_; }
  std::vector<PlannedCell>& planned() { return planned_; }

 private:
  Record& add(const std::string& approach, int64_t run, Level level);

  TemporaryFolder folder_;
  std::vector<PlannedCell> planned_;
  std::vector<std::unique_ptr<Record>> records_;
};

}  // namespace harness::testing
