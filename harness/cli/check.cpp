#include <iostream>

#include "harness/cli/commands.hpp"
#include "harness/cli/common.hpp"
#include "harness/cli/standing.hpp"
#include "harness/core/error.hpp"
#include "harness/measure/subject.hpp"

namespace harness::cli {
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

constexpr size_t kShownCells = 10;

// Says what a run would keep of that tree, and what not and why. On standard error, because the output is the
// configuration.
int check_results(const Config& config, const ResultsTree& tree) {
  std::error_code ignored;
  if (std::filesystem::exists(tree.root(), ignored) && !std::filesystem::is_directory(tree.root(), ignored)) {
    throw UserError({"command line", "--results", "a file, " + tree.root().string(), "a folder", ""});
  }
  const Standing standing = standing_of(config, tree);
  std::cerr << tree.root().string() << ": " << standing.counts << "\n";
  for (size_t k = 0; k < std::min(kShownCells, standing.because.size()); ++k) {
    std::cerr << "  " << standing.because[k] << "\n";
  }
  if (standing.because.size() > kShownCells) {
    std::cerr << "  and " << standing.because.size() - kShownCells << " more: harness status names them\n";
  }
  return standing.damaged ? 4 : 0;
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
  return arguments.has("results") ? check_results(config, tree_of(arguments, config)) : 0;
}

}  // namespace

Command check_command() {
  return {{"check",
           "Reads configuration, data and models, prints the configuration with all defaults.",
           {"CONFIG"},
           {{"results", OptionKind::single, "DIR", "say how its cells stand in this results tree, too"},
            set_option(),
            device_option(),
            limit_option()}},
          check};
}

}  // namespace harness::cli
