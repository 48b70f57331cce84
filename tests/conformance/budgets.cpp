// Budgets, on the way that the program goes: a subject from files, and run_fix() around the fix.
#include <ATen/ATen.h>

#include "tests/conformance/properties.hpp"
#include "tests/support.hpp"

namespace harness::testing {
namespace {

constexpr double kMaxSecondsOverBudget = 0.5, kMaxMegabytesOverBudget = 64;

// The case's network, data and history as a subject in a folder of its own.
class SubjectFiles {
 public:
  explicit SubjectFiles(const Case& one, const FixContext::Setup& setup) {
    config_.name = "S";
    config_.model_name = "m";
    config_.model = folder_ / "m.pt";
    config_.data = setup.data->file();
    one.network->save(config_.model);
    for (const auto& set : setup.history) {
      Network earlier = one.network->fork();
      for (const auto& [name, value] : set) earlier.set_parameter(earlier.find_parameter(name), value);
      config_.history.push_back(folder_ / (std::to_string(config_.history.size()) + ".pt"));
      earlier.save(config_.history.back());
    }
    subject_.emplace(config_, all_, at::kCPU);
  }
  const Subject& subject() const { return *subject_; }

 private:
  TemporaryFolder folder_;
  SubjectConfig config_;
  Config all_;
  std::optional<Subject> subject_;
};

}  // namespace

Complaints budget_complaints(const Case& one) {
  Complaints complaints;
  const FixContext::Setup setup = one.setup();
  const SubjectFiles files(one, setup);
  const auto fix = [&](const Budget& budget) {
    ApproachConfig entry;
    entry.hyperparameters = setup.hyperparameters;
    entry.shadow = setup.shadow;
    cell::FixJob job = cell::fix_job(*one.approach, files.subject(), entry, repair_counts(one), setup.seed);
    job.budget = budget;
    return cell::run_fix(job);
  };
  const cell::FixOutcome whole = fix({});
  if (whole.status != Status::ok) complaints.push_back("without a budget: " + whole.reason);
  const std::vector<std::pair<Budget, std::string>> budgets = {
      {{.seconds = 0}, "timeout: no fix within 0 s"},
      {{.seconds = 1e-3}, "timeout: no fix within 0.001 s"},
      {{.megabytes = 1e-3}, "out_of_memory: no fix within 0.001 MB"}};
  for (const auto& [budget, wanted] : budgets) {
    const double begin = processor_seconds();
    const cell::FixOutcome cut = fix(budget);
    const std::string where = "instead of " + wanted + ": ";
    if (cut.status != Status::ok && cut.reason != wanted) complaints.push_back(where + cut.reason);
    if (processor_seconds() - begin > kMaxSecondsOverBudget + whole.seconds)
      complaints.push_back(where + "went on for " + std::to_string(processor_seconds() - begin) + " s");
    if (cut.memory && cut.memory->growth > kMaxMegabytesOverBudget)
      complaints.push_back(where + "took " + std::to_string(cut.memory->growth) + " MB");
    if (cut.result.network) {
      for (const std::string& text : touched_complaints(files.subject().original(), cut.result))
        complaints.push_back(where + text);
    }
  }
  return complaints;
}

}  // namespace harness::testing
