#include <iostream>

#include "harness/cli/commands.hpp"
#include "harness/cli/common.hpp"
#include "harness/core/error.hpp"
#include "harness/run/subject.hpp"

namespace harness {
namespace {

void collect(const UserError& error, std::vector<Problem>* problems) {
  problems->insert(problems->end(), error.problems().begin(), error.problems().end());
}

void check_subject(const SubjectConfig& subject, const Config& config, std::vector<Problem>* problems) {
  try {
    const Subject opened(subject, config, at::Device(at::kCPU));
    for (const PublishedModels& models : subject.published) {
      for (const std::filesystem::path& file : models.files) {
        try {
          opened.load_model(file);
        } catch (const UserError& error) {
          collect(error, problems);
        }
      }
    }
  } catch (const UserError& error) {
    collect(error, problems);
  }
}

int check(const Arguments& arguments) {
  const Config config = configured(arguments, true);
  std::cout << config.effective().dump(2) << "\n";
  std::vector<Problem> problems;
  for (const SubjectConfig& subject : config.subjects) check_subject(subject, config, &problems);
  try {
    choose_device(config.device);
  } catch (const UserError& error) {
    collect(error, &problems);
  }
  if (!problems.empty()) throw UserError(std::move(problems));
  return 0;
}

}  // namespace

Command check_command() {
  return {{"check",
           "Reads configuration, data and models, prints the configuration with all defaults.",
           {"CONFIG"},
           {set_option(), device_option(), limit_option()}},
          check};
}

}  // namespace harness
