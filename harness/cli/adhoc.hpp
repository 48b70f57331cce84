#pragma once

#include <memory>
#include <string>

#include "harness/cell/fixing.hpp"
#include "harness/cli/arguments.hpp"
#include "harness/measure/device.hpp"
#include "harness/measure/original.hpp"

namespace harness {

// A subject from --model and --data alone, for commands that take no configuration. Its results are kept
// nowhere.
struct AdHoc {
  Config config;
  SubjectConfig subject_config;
  DeviceChoice device;
  std::unique_ptr<Subject> subject;
  std::unique_ptr<Original> original;
  RepairCounts repair_counts() const;
};

// Throws UserError for a file that cannot be read, named as the value of `option`.
void demand_file(const std::string& option, const std::filesystem::path& file);

// Options it understands: model, data, seed, device, threads, batch; `attack` may be absent.
std::unique_ptr<AdHoc> open_ad_hoc(const std::string& model, const std::string& data,
                                   const Arguments& arguments, std::optional<AttackConfig> attack);

// The entry of "approaches" that `text` ("AR", "RAND:AR") and `parameters` stand for. Throws UserError.
ApproachConfig approach_entry(const std::string& text, const nlohmann::json& parameters);

}  // namespace harness
