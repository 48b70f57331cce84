#include "harness/cli/adhoc.hpp"

#include "harness/cli/common.hpp"
#include "harness/config/config_parts.hpp"
#include "harness/core/missing.hpp"

namespace harness::cli {

void demand_file(const std::string& option, const std::filesystem::path& file) {
  if (const auto error = option == "--data" ? data_file_problem(file) : file_problem(file)) {
    throw UserError({"command line", option, error->found, "a file that can be read", error->suggestion});
  }
}

cell::RepairCounts AdHoc::repair_counts() const {
  if (!subject->data().has("repair")) return {};
  return cell::count_repair(subject->labels("repair"), original->classes("repair"));
}

std::unique_ptr<AdHoc> open_ad_hoc(const std::string& model, const std::string& data,
                                   const Arguments& arguments, std::optional<AttackConfig> attack) {
  demand_file("--model", model);
  demand_file("--data", data);
  auto opened = std::make_unique<AdHoc>();
  opened->config.device = arguments.text("device").value_or("auto");
  opened->config.seed = static_cast<uint64_t>(arguments.integer("seed", 0).value_or(42));
  opened->config.batch = arguments.integer("batch", 1);
  opened->device = prepare_device(opened->config, arguments);
  SubjectConfig& subject = opened->subject_config;
  subject.model = model;
  subject.data = data;
  subject.name = subject.model_name = subject.model.stem().string();
  subject.attack = attack;
  opened->subject = std::make_unique<Subject>(subject, opened->config, opened->device.first());
  opened->original = std::make_unique<Original>(*opened->subject, "", "");
  return opened;
}

ApproachConfig approach_entry(const std::string& text, const nlohmann::json& parameters) {
  std::vector<Problem> problems;
  const nlohmann::json entry = {{"key", text}, {"parameters", parameters}};
  const auto entries = read_approaches(nlohmann::json::array({entry}),
                                       {"command line", "--approach", &problems}, {approach_catalog()});
  const std::string of_parameter = "--approach/0/parameters/";
  for (Problem& problem : problems) {  // as they were given
    if (problem.place.starts_with(of_parameter))
      problem.place = "--set " + problem.place.substr(of_parameter.size());
  }
  if (!problems.empty()) throw UserError(std::move(problems));
  return entries.at(0);
}

}  // namespace harness::cli
