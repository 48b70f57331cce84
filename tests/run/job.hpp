#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "harness/approach/approach.hpp"
#include "harness/cell/cell.hpp"
#include "harness/core/files.hpp"
#include "harness/pool/engine.hpp"
#include "tests/run/fixture.hpp"
#include "tests/support.hpp"

namespace harness::testing {

namespace fs = std::filesystem;
using nlohmann::json;

// One configuration in a folder of its own, run as the program would.
class Job {
 public:
  explicit Job(const json& changes) {
    value_ = {
        {"subjects", {{{"name", "S"}, {"model", model_file().string()}, {"data", data_file().string()}}}},
        {"runs", 1}};
    value_.merge_patch(changes);
    read();
  }
  void change(const json& changes) {
    value_.merge_patch(changes);
    read();
  }
  pool::RunSummary run(const plan::Selection& selection = {}) {
    plan_ = plan::make_plan(config_, catalog(), "cpu");
    pool::Progress silent(pool::Progress::Form::silent);
    return pool::run_plan(config_, tree(), plan_, work(selection),
                          {.device = device_, .jobs = jobs, .threads = 1}, silent);
  }
  std::vector<std::string> todo(const plan::Selection& selection = {}) {
    plan_ = plan::make_plan(config_, catalog(), "cpu");
    std::vector<std::string> ids;
    for (const plan::Task& task : work(selection).todo) {
      ids.push_back(plan_[task.place].planned.cell.text());
    }
    return ids;
  }
  ResultsTree tree() const { return ResultsTree(folder_ / "results"); }
  Record record(const std::string& approach, int64_t run = 1) const {
    const auto found = tree().read({"S", "small", approach, run});
    REQUIRE(found);
    return *found;
  }
  bool has_record(const std::string& approach) const {
    return tree().read({"S", "small", approach, 1}).has_value();
  }
  std::vector<plan::PlanEntry> plan(const std::string& device = "cpu") {
    return plan::make_plan(config_, catalog(), device);
  }

  CellState state(const CellId& cell) {
    for (const plan::PlanEntry& entry : plan()) {
      if (entry.planned.cell.text() == cell.text()) {
        return state_of(entry.planned, tree().read(cell), Compare::exact);
      }
    }
    return CellState::missing;
  }
  int64_t jobs = 1;
  int version = 1;  // of every approach, as the plan sees it

 private:
  plan::Workload work(const plan::Selection& selection) const {
    const ResultsTree results = tree();
    RecordIndex index(results);
    plan::Workload found = plan::choose_work(config_, results, index, plan_, std::nullopt, selection);
    if (fs::exists(results.root())) index.save();  // and all runs read it again
    return found;
  }
  Catalog catalog() const {
    Catalog all = approach_catalog();
    for (ApproachInfo& info : all) info.version = version;
    return all;
  }

  void read() {
    write_atomically(folder_ / "c.json", value_.dump());
    config_ = read_config(folder_ / "c.json", approach_catalog());
  }

  TemporaryFolder folder_;
  json value_;
  Config config_;
  DeviceChoice device_ = choose_device("cpu");
  std::vector<plan::PlanEntry> plan_;
};

inline std::string outcome(const Record& record) {
  return std::string(to_text(record.status)) + " " + record.reason;
}

}  // namespace harness::testing
