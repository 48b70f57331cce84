#pragma once

#include <optional>
#include <string>
#include <vector>

#include "harness/plan/costs.hpp"
#include "harness/plan/selection.hpp"

namespace harness {

// plan.json: schema, name of the configuration, number of shards (null: none frozen) and every cell with
// seed, digest, expected seconds and shard. Costs and shards are frozen when it is written by `harness plan`;
// tasks of an array only read it, so that a task that is requeued gets the cells it had.
struct FrozenPlan {
  int64_t shards = 0;                            // 0: not divided
  std::vector<std::optional<double>> estimates;  // of each cell, seconds
  std::vector<int64_t> shard;                    // of each cell, from 1; empty where not divided
};

// That of these very cells; nothing where there is none, or one of other cells or digests.
std::optional<FrozenPlan> read_plan(const ResultsTree& tree, const std::vector<PlanEntry>& plan);
void write_plan(const ResultsTree& tree, const Config& config, const std::vector<PlanEntry>& plan,
                const FrozenPlan& frozen);

// Estimates of `costs`, divided among `shards` where that is above 0.
FrozenPlan freeze(const std::vector<PlanEntry>& plan, const std::vector<Cost>& costs, int64_t shards);

// Which cells (places in the plan) a shard of a run holds: those of the frozen plan where it was divided into
// as many, else a division by its estimates, or evenly where there is no frozen plan. An array task without a
// number of shards (a Slurm array with gaps) takes the frozen one; throws UserError where there is none, or
// where the index is outside.
std::vector<bool> cells_of_shard(const std::vector<PlanEntry>& plan, const std::optional<FrozenPlan>& frozen,
                                 const Shard& shard);

}  // namespace harness
