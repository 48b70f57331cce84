#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "harness/config/config.hpp"
#include "harness/store/results.hpp"

namespace harness::plan {

// A cell with the parts of the configuration it comes from; valid as long as that Config.
struct PlanEntry {
  PlannedCell planned;
  const SubjectConfig* subject = nullptr;
  const ApproachConfig* approach = nullptr;  // null for published models
  std::filesystem::path published;
};

// All cells, sorted by subject, approach and run: a pure function of configuration and catalog (and of the
// files' digests). `device_class` "cpu" or "cuda". Files that are absent have the digest null.
std::vector<PlanEntry> make_plan(const Config& config, const Catalog& catalog,
                                 const std::string& device_class);
std::vector<PlannedCell> cells_of(const std::vector<PlanEntry>& plan);

// Budget of a cell: the approach's own, else the subject's, else the configuration's.
Budget budget_of(const Config& config, const PlanEntry& entry);

// What a record takes from the plan, not from a computation.
void identify(const Config& config, const PlanEntry& entry, Record* record);

// Whether the cell's fixed model stays (configuration key "keep").
bool keeps_model(const Config& config, const PlanEntry& entry);

}  // namespace harness::plan
