#include "harness/plan/plan_file.hpp"

#include <algorithm>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/plan/shards.hpp"

namespace harness::plan {
namespace {

using nlohmann::json;

// Seconds of a cell of unknown cost, and the least that any cell counts.
constexpr double kUnknownSeconds = 60, kMinSeconds = 0.01;

std::vector<int64_t> divided(const std::vector<PlanEntry>& plan,
                             const std::vector<std::optional<double>>& estimates, int64_t shards) {
  std::vector<double> costs;
  std::vector<std::string> subjects;
  for (size_t i = 0; i < plan.size(); ++i) {
    costs.push_back(std::max(estimates[i].value_or(kUnknownSeconds), kMinSeconds));
    subjects.push_back(plan[i].planned.cell.subject);
  }
  return divide(costs, subjects, shards);
}

}  // namespace

FrozenPlan freeze(const std::vector<PlanEntry>& plan, const std::vector<Cost>& costs, int64_t shards) {
  FrozenPlan frozen{shards, {}, {}};
  for (const Cost& cost : costs) frozen.estimates.push_back(cost.seconds);
  if (shards > 0) frozen.shard = divided(plan, frozen.estimates, shards);
  return frozen;
}

std::optional<FrozenPlan> read_plan(const ResultsTree& tree, const std::vector<PlanEntry>& plan) {
  std::error_code ignored;
  if (!std::filesystem::exists(tree.plan(), ignored)) return std::nullopt;
  try {
    const json value = json::parse(read_text(tree.plan()));
    const json& cells = value.at("cells");
    if (value.at("schema") != kRecordSchema || cells.size() != plan.size()) return std::nullopt;
    FrozenPlan frozen;
    if (!value.at("shards").is_null()) frozen.shards = value.at("shards");
    for (size_t i = 0; i < plan.size(); ++i) {
      const json& cell = cells[i];
      if (cell.at("digest") != plan[i].planned.digest || cell.at("id") != plan[i].planned.cell.text()) {
        return std::nullopt;
      }
      const json& estimate = cell.at("estimate_s");
      frozen.estimates.push_back(estimate.is_null() ? std::nullopt : std::optional<double>(estimate));
      if (frozen.shards > 0) frozen.shard.push_back(cell.at("shard"));
    }
    return frozen;
  } catch (const std::exception&) {  // it is made again
    return std::nullopt;
  }
}

void write_plan(const ResultsTree& tree, const Config& config, const std::vector<PlanEntry>& plan,
                const FrozenPlan& frozen) {
  // one line for each cell: quick to write, and readable
  std::string text =
      "{\"schema\": " + std::to_string(kRecordSchema) + ", \"name\": " + json(config.name).dump() +
      ", \"shards\": " + (frozen.shards > 0 ? std::to_string(frozen.shards) : "null") + ", \"cells\": [";
  for (size_t i = 0; i < plan.size(); ++i) {
    const CellId& cell = plan[i].planned.cell;
    const json value = {{"id", cell.text()},
                        {"subject", cell.subject},
                        {"model", cell.model},
                        {"approach", cell.approach},
                        {"run", cell.run},
                        {"key", plan[i].planned.key},
                        {"seed", plan[i].planned.seed},
                        {"digest", plan[i].planned.digest},
                        {"estimate_s", frozen.estimates[i] ? json(*frozen.estimates[i]) : json(nullptr)},
                        {"shard", frozen.shards > 0 ? json(frozen.shard[i]) : json(nullptr)}};
    text += (i > 0 ? ",\n" : "\n") + value.dump();
  }
  make_folders(tree.root());
  write_atomically(tree.plan(), text + "\n]}\n");
}

std::vector<bool> cells_of_shard(const std::vector<PlanEntry>& plan, const std::optional<FrozenPlan>& frozen,
                                 const Shard& shard) {
  int64_t count = shard.count, index = shard.index;
  if (shard.task && frozen && frozen->shards > 0) {
    index = *shard.task;
    count = frozen->shards;
  }
  if (count == 0) {
    throw UserError({"environment", "SLURM_ARRAY_TASK_*", "an array with gaps, and no plan that is divided",
                     "harness plan CONFIG --array before the array is submitted, or --shard i/n", ""});
  }
  if (index < 1 || index > count) {
    throw UserError({"environment", "SLURM_ARRAY_TASK_ID", std::to_string(index),
                     "1 to " + std::to_string(count) + ", as plan.json is divided", ""});
  }
  if (count == 1) return std::vector<bool>(plan.size(), true);
  std::vector<int64_t> shard_of;
  if (frozen && frozen->shards == count) {
    shard_of = frozen->shard;
  } else {
    const std::vector<std::optional<double>> unknown(plan.size());
    shard_of = divided(plan, frozen ? frozen->estimates : unknown, count);
  }
  std::vector<bool> holds;
  for (const int64_t of : shard_of) holds.push_back(of == index);
  return holds;
}

}  // namespace harness::plan
