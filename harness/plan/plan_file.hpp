#pragma once

#include <optional>
#include <string>
#include <vector>

#include "harness/plan/costs.hpp"
#include "harness/plan/selection.hpp"

namespace harness::plan {

// plan.json: schema, name of the configuration, number of shards (null: none frozen) and every cell with
// seed, digest, expected seconds and shard. Costs and shards are frozen when it is written by `harness plan`;
// the tasks of a job array only read it, so that a task that is started again gets the same cells.
struct FrozenPlan {
  int64_t shards = 0;                            // 0: not divided
  std::vector<std::optional<double>> estimates;  // of each cell, seconds
  std::vector<int64_t> shard;                    // of each cell, from 1; empty where not divided
};

// The frozen plan of exactly these cells. Nothing where there is none, or one of other cells or digests.
std::optional<FrozenPlan> read_plan(const ResultsTree& tree, const std::vector<PlanEntry>& plan);
void write_plan(const ResultsTree& tree, const Config& config, const std::vector<PlanEntry>& plan,
                const FrozenPlan& frozen);

// Estimates of `costs`, divided among `shards` where that is above 0.
FrozenPlan freeze(const std::vector<PlanEntry>& plan, const std::vector<Cost>& costs, int64_t shards);

// Whether each cell of the plan belongs to the shard. Where the frozen plan was divided into as many shards,
// that division counts; else the cells are divided by its estimates, or evenly where there is no frozen plan.
// A task of a Slurm array with gaps does not know the number of shards and takes that of the frozen plan;
// throws UserError where there is none, or where the index is outside.
std::vector<bool> cells_of_shard(const std::vector<PlanEntry>& plan, const std::optional<FrozenPlan>& frozen,
                                 const Shard& shard);

}  // namespace harness::plan
