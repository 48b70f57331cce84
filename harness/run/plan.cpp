#include "harness/run/plan.hpp"

#include <algorithm>
#include <map>

#include "harness/core/files.hpp"
#include "harness/core/random.hpp"

namespace harness {
namespace {

using nlohmann::json;

// What of a subject decides results: no paths, no budgets, no name of the model.
json subject_identity(const json& effective) {
  json subject = effective;
  for (const char* gone : {"model", "model_name", "data", "published", "history", "budget"})
    subject.erase(gone);
  return subject;
}

class Planner {
 public:
  Planner(const Config& config, const Catalog& catalog, std::string device_class)
      : config_(config),
        catalog_(catalog),
        device_class_(std::move(device_class)),
        effective_(config.effective()) {}

  void add_subject(size_t position, std::vector<PlanEntry>* plan) {
    const SubjectConfig& subject = config_.subjects[position];
    subject_ = subject_identity(effective_["subjects"][position]);
    for (const ApproachConfig& approach : config_.approaches) {
      for (int64_t run = 1; run <= config_.runs; ++run) plan->push_back(of_approach(subject, approach, run));
    }
    for (const PublishedModels& models : subject.published) {
      for (size_t k = 0; k < models.files.size(); ++k) {
        plan->push_back(of_published(subject, models, static_cast<int64_t>(k) + 1));
      }
    }
  }

 private:
  PlanEntry start(const SubjectConfig& subject, const std::string& approach, int64_t run) const {
    PlanEntry entry;
    entry.subject = &subject;
    entry.planned.cell = {subject.name, subject.model_name, approach, run};
    entry.planned.seed = derive_seed(config_.seed, entry.planned.cell.text());
    entry.planned.identity = {{"schema", kRecordSchema},
                              {"subject", subject_},
                              {"config_seed", config_.seed},
                              {"seed", entry.planned.seed},
                              {"corrupted_below", config_.corrupted_below},
                              {"batch", config_.batch},
                              {"deterministic", config_.deterministic},
                              {"tf32", config_.tf32},
                              {"device", device_class_},
                              {"limit", config_.limit},
                              {"files", {{"model", digest(subject.model)}, {"data", digest(subject.data)}}}};
    return entry;
  }

  PlanEntry of_approach(const SubjectConfig& subject, const ApproachConfig& approach, int64_t run) const {
    PlanEntry entry = start(subject, approach.as, run);
    const ApproachInfo* info = find(catalog_, approach.key);
    if (info == nullptr)
      interface_misuse("the plan meets an approach that is in no catalog: " + approach.key);
    const ApproachInfo* shadow = find(catalog_, approach.shadow);
    const std::string plain = approach.shadow.empty() ? approach.key : approach.key + ":" + approach.shadow;
    entry.approach = &approach;
    entry.planned.key = approach.key;
    entry.planned.name = info->name + (shadow ? " of " + shadow->name : "");
    if (approach.as != plain) entry.planned.name += ", variant";
    entry.planned.level = info->level;
    entry.planned.in_study = info->in_study && approach.as == plain;
    json& identity = entry.planned.identity;
    identity["approach"] = {
        {"key", approach.key}, {"shadow", approach.shadow}, {"parameters", approach.parameters.values()}};
    // a control works with the engine of the approach it shadows
    identity["version"] = shadow ? std::to_string(info->version) + "/" + std::to_string(shadow->version)
                                 : std::to_string(info->version);
    for (size_t k = 0; k < subject.history.size(); ++k) {
      identity["files"]["history " + std::to_string(k + 1)] = digest(subject.history[k]);
    }
    return entry;
  }

  PlanEntry of_published(const SubjectConfig& subject, const PublishedModels& models, int64_t run) const {
    PlanEntry entry = start(subject, "published:" + models.key, run);
    entry.published = models.files[static_cast<size_t>(run) - 1];
    const ApproachInfo* info = find(catalog_, models.key);
    entry.planned.key = entry.planned.cell.approach;
    entry.planned.name = (info ? info->name : models.key) + ", published models";
    entry.planned.level = Level::published;
    json& identity = entry.planned.identity;
    identity["subject"].erase("training");
    identity["approach"] = {{"published", models.key}};
    identity["version"] = "1";
    identity["files"]["published"] = digest(entry.published);
    return entry;
  }

  static json digest(const std::filesystem::path& file) {
    std::error_code trouble;
    if (!std::filesystem::is_regular_file(file, trouble)) return nullptr;
    return digest_of_file(file);
  }

  const Config& config_;
  const Catalog& catalog_;
  std::string device_class_;
  json effective_, subject_;
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

void write_plan(const ResultsTree& tree, const Config& config, const std::vector<PlanEntry>& plan) {
  json cells = json::array();
  for (const PlanEntry& entry : plan) {
    const CellId& cell = entry.planned.cell;
    cells.push_back({{"id", cell.text()},
                     {"subject", cell.subject},
                     {"model", cell.model},
                     {"approach", cell.approach},
                     {"run", cell.run},
                     {"key", entry.planned.key},
                     {"seed", entry.planned.seed},
                     {"digest", entry.planned.digest()}});
  }
  const json value = {{"schema", kRecordSchema}, {"name", config.name}, {"cells", cells}};
  make_folders(tree.root());
  write_atomically(tree.plan(), value.dump(1) + "\n");
}

}  // namespace harness
