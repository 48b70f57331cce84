#pragma once

#include <memory>
#include <string>

#include "harness/cell/fixing.hpp"
#include "harness/cli/arguments.hpp"
#include "harness/measure/device.hpp"
#include "harness/measure/original.hpp"

namespace harness::cli {

// A subject made from --model and --data, for commands without a configuration. Its results are not kept.
struct AdHoc {
  Config config;
  SubjectConfig subject_config;
  DeviceChoice device;
  std::unique_ptr<Subject> subject;
  std::unique_ptr<Original> original;
  cell::RepairCounts repair_counts() const;
};

// Throws UserError where the file that is given by `option` cannot be read.
void demand_file(const std::string& option, const std::filesystem::path& file);

// Reads the options seed, device, threads and batch. Nothing is attacked where `attack` is absent.
std::unique_ptr<AdHoc> open_ad_hoc(const std::string& model, const std::string& data,
                                   const Arguments& arguments, std::optional<AttackConfig> attack);

// The entry of "approaches" for `text` ("AR", "RAND:AR") with `parameters`. Throws UserError.
ApproachConfig approach_entry(const std::string& text, const nlohmann::json& parameters);

}  // namespace harness::cli
