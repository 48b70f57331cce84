#include "harness/plan/plan.hpp"

#include <algorithm>

#include "harness/core/files.hpp"
#include "harness/core/random.hpp"
#include "harness/measure/metrics/metric.hpp"

namespace harness::plan {
namespace {

using nlohmann::json;

class Planner {
 public:
  Planner(const Config& config, const Catalog& catalog, std::string device_class)
      : config_(config),
        catalog_(catalog),
        device_class_(std::move(device_class)),
        effective_(config.effective()) {}

  void add_subject(size_t position, std::vector<PlanEntry>* plan) {
    const SubjectConfig& subject = config_.subjects[position];
    // no paths, no budgets, no name of the model: they decide no result
    const json& effective = effective_.at("subjects").at(position);
    base_.subject = {subject.name, effective.at("attack"), effective.at("groups"), effective.at("training")};
    base_.config_seed = config_.seed;
    base_.corrupted_below = config_.corrupted_below;
    base_.batch = config_.batch;
    base_.deterministic = config_.deterministic;
    base_.tf32 = config_.tf32;
    base_.device = device_class_;
    base_.limit = config_.limit;
    base_.metrics = metrics::metrics_digest();
    base_.files = {{"model", digest(subject.model)}, {"data", digest(subject.data)}};
    for (const ApproachConfig& approach : config_.approaches) {
      const PlanEntry of_all_runs = of_approach(subject, approach);
      for (int64_t run = 1; run <= config_.runs; ++run) plan->push_back(as_run(of_all_runs, run));
    }
    for (const PublishedModels& models : subject.published) {
      for (size_t k = 0; k < models.files.size(); ++k) {
        plan->push_back(of_published(subject, models, static_cast<int64_t>(k) + 1));
      }
    }
  }

 private:
  PlanEntry start(const SubjectConfig& subject, const std::string& approach) const {
    PlanEntry entry;
    entry.subject = &subject;
    entry.planned.cell = {subject.name, subject.model_name, approach, 1};
    entry.planned.identity = base_;
    return entry;
  }

  PlanEntry as_run(PlanEntry entry, int64_t run) const {
    entry.planned.cell.run = run;
    entry.planned.seed = derive_seed(config_.seed, entry.planned.cell.text());
    entry.planned.identity.seed = entry.planned.seed;
    entry.planned.seal();
    return entry;
  }

  PlanEntry of_approach(const SubjectConfig& subject, const ApproachConfig& approach) const {
    PlanEntry entry = start(subject, approach.as);
    entry.approach = &approach;
    entry.planned.key = approach.key;
    Identity& identity = entry.planned.identity;
    identity.approach = {approach.key, approach.shadow, approach.hyperparameters.values()};
    if (approach.external) {
      entry.planned.name = approach.name;
      entry.planned.level = approach.level;
      add_external(*approach.external, &identity);
    } else {
      add_own(approach, &entry);
    }
    for (size_t k = 0; k < subject.history.size(); ++k) {
      identity.files["history " + std::to_string(k + 1)] = digest(subject.history[k]);
    }
    return entry;
  }

  void add_own(const ApproachConfig& approach, PlanEntry* entry) const {
    const ApproachInfo* info = find(catalog_, approach.key);
    if (info == nullptr)
      interface_misuse("the plan meets an approach that is in no catalog: " + approach.key);
    const ApproachInfo* shadow = find(catalog_, approach.shadow);
    const std::string plain = approach.shadow.empty() ? approach.key : approach.key + ":" + approach.shadow;
    entry->planned.name = info->name + (shadow ? " of " + shadow->name : "");
    if (approach.as != plain) entry->planned.name += ", variant";
    entry->planned.level = info->level;
    entry->planned.basis = info->basis;
    entry->planned.in_study = info->in_study && approach.as == plain;
    // a control works with the engine of the approach it shadows
    entry->planned.identity.version =
        shadow ? std::to_string(info->version) + "/" + std::to_string(shadow->version)
               : std::to_string(info->version);
  }

  // The program's own files decide its results, wherever they lie.
  static void add_external(const ExternalProgram& program, Identity* identity) {
    std::vector<std::string> command;
    for (const std::string& word : program.command) {
      const bool is_file = std::find(program.files.begin(), program.files.end(), word) != program.files.end();
      command.push_back(is_file ? std::filesystem::path(word).filename().string() : word);
    }
    identity->approach.program = Identity::Program{std::move(command), program.needs, program.uses};
    identity->version = "external";
    for (size_t k = 0; k < program.files.size(); ++k) {
      identity->files["program " + std::to_string(k + 1)] = digest(program.files[k]);
    }
  }

  PlanEntry of_published(const SubjectConfig& subject, const PublishedModels& models, int64_t run) const {
    PlanEntry entry = start(subject, "published:" + models.key);
    entry.published = models.files[static_cast<size_t>(run) - 1];
    const ApproachInfo* info = find(catalog_, models.key);
    entry.planned.key = entry.planned.cell.approach;
    entry.planned.name = (info ? info->name : models.key) + ", published models";
    entry.planned.level = Level::published;
    Identity& identity = entry.planned.identity;
    identity.subject.training.reset();
    identity.approach.published = models.key;
    identity.version = "1";
    identity.files["published"] = digest(entry.published);
    return as_run(std::move(entry), run);
  }

  static std::optional<std::string> digest(const std::filesystem::path& file) {
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(file, ignored)) return std::nullopt;
    return digest_of_file(file);
  }

  const Config& config_;
  const Catalog& catalog_;
  std::string device_class_;
  json effective_;
  Identity base_;
};

}  // namespace

std::vector<PlanEntry> make_plan(const Config& config, const Catalog& catalog,
                                 const std::string& device_class) {
  std::vector<PlanEntry> plan;
  Planner planner(config, catalog, device_class);
  for (size_t i = 0; i < config.subjects.size(); ++i) planner.add_subject(i, &plan);
  std::sort(plan.begin(), plan.end(), [](const PlanEntry& a, const PlanEntry& b) {
    const CellId &x = a.planned.cell, &y = b.planned.cell;
    return std::tie(x.subject, x.approach, x.run) < std::tie(y.subject, y.approach, y.run);
  });
  return plan;
}

std::vector<PlannedCell> cells_of(const std::vector<PlanEntry>& plan) {
  std::vector<PlannedCell> cells;
  for (const PlanEntry& entry : plan) cells.push_back(entry.planned);
  return cells;
}

Budget budget_of(const Config& config, const PlanEntry& entry) {
  if (entry.approach != nullptr && entry.approach->budget) return *entry.approach->budget;
  if (entry.subject->budget) return *entry.subject->budget;
  return config.budget.value_or(Budget{});
}

void identify(const Config& config, const PlanEntry& entry, Record* record) {
  record->cell = entry.planned.cell;
  record->key = entry.planned.key;
  record->name = entry.planned.name;
  record->level = entry.planned.level;
  record->in_study = entry.planned.in_study;
  record->seed = entry.planned.seed;
  record->digest = entry.planned.digest;
  record->limited = !config.limit.empty();
}

bool keeps_model(const Config& config, const PlanEntry& entry) {
  return config.keep == "all" || (config.keep == "first" && entry.planned.cell.run == 1);
}

}  // namespace harness::plan
