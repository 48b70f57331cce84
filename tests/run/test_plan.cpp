#include <cmath>
#include <numeric>
#include <set>

#include "harness/approach/approach.hpp"
#include "harness/core/files.hpp"
#include "harness/core/random.hpp"
#include "harness/plan/plan_file.hpp"
#include "harness/plan/shards.hpp"
#include "tests/run/fixture.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;
using nlohmann::json;

namespace {

// A plan of subjects x approaches x runs without any files.
std::vector<plan::PlanEntry> plan_of(int subjects, int approaches, int runs) {
  std::vector<plan::PlanEntry> plan;
  for (int s = 0; s < subjects; ++s) {
    for (int a = 0; a < approaches; ++a) {
      for (int r = 1; r <= runs; ++r) {
        plan::PlanEntry entry;
        entry.planned.cell = {"S" + std::to_string(s), "m", "A" + std::to_string(a), r};
        entry.planned.identity.subject.name = entry.planned.cell.text();
        entry.planned.seal();
        plan.push_back(entry);
      }
    }
  }
  return plan;
}

// Times as they are: approaches differ by orders of magnitude, runs by little.
std::vector<plan::Cost> lifelike_costs(const std::vector<plan::PlanEntry>& plan, uint64_t seed) {
  RandomStream random(seed);
  std::map<std::string, double> of_row;
  std::vector<plan::Cost> costs;
  for (const plan::PlanEntry& entry : plan) {
    const CellId& cell = entry.planned.cell;
    auto [row, fresh] = of_row.emplace(cell.subject + cell.approach, 0);
    if (fresh) row->second = std::exp(4 + 1.2 * random.normal());
    costs.push_back({row->second * (0.9 + 0.2 * random.uniform()), "its own record"});
  }
  return costs;
}

std::vector<std::vector<bool>> all_shards(const std::vector<plan::PlanEntry>& plan,
                                          const std::optional<plan::FrozenPlan>& frozen, int64_t count) {
  std::vector<std::vector<bool>> shards;
  for (int64_t index = 1; index <= count; ++index) {
    shards.push_back(plan::cells_of_shard(plan, frozen, {.index = index, .count = count}));
  }
  return shards;
}

}  // namespace

TEST_CASE("shards are disjoint, together everything, and balanced where costs are known") {
  const std::vector<plan::PlanEntry> plan = plan_of(5, 8, 5);
  REQUIRE(plan.size() == 200);
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const std::vector<plan::Cost> costs = lifelike_costs(plan, seed);
    for (const int64_t count : {1, 2, 4, 8}) {
      const plan::FrozenPlan frozen = plan::freeze(plan, costs, count);
      const auto shards = all_shards(plan, frozen, count);
      double maximum = 0, sum = 0;
      std::vector<int> holders(plan.size(), 0);
      for (const auto& shard : shards) {
        double load = 0;
        for (size_t i = 0; i < plan.size(); ++i) {
          holders[i] += shard[i];
          if (shard[i]) load += *costs[i].seconds;
        }
        maximum = std::max(maximum, load);
        sum += load;
      }
      INFO("seed " << seed << ", shards " << count);
      CHECK(std::all_of(holders.begin(), holders.end(), [](int number) { return number == 1; }));
      const double largest_cell =
          std::max_element(costs.begin(), costs.end(), [](const plan::Cost& a, const plan::Cost& b) {
            return *a.seconds < *b.seconds;
          })->seconds.value();
      const double mean = sum / static_cast<double>(count);
      CHECK(maximum <= std::max(1.05 * mean, largest_cell));
      if (largest_cell < mean) CHECK(maximum / mean <= 1.05);
    }
  }
}

TEST_CASE("cells of a subject stay together as far as balance allows") {
  const std::vector<plan::PlanEntry> plan = plan_of(4, 5, 10);
  const auto shards = all_shards(plan, plan::freeze(plan, std::vector<plan::Cost>(plan.size()), 4), 4);
  for (const auto& shard : shards) {  // equal costs: a subject each
    std::set<std::string> subjects;
    for (size_t i = 0; i < plan.size(); ++i) {
      if (shard[i]) subjects.insert(plan[i].planned.cell.subject);
    }
    CHECK(subjects.size() == 1);
  }
}

TEST_CASE("a frozen plan is read back, and only for the same cells") {
  const TemporaryFolder folder;
  const ResultsTree tree(folder / "results");
  Config config;
  std::vector<plan::PlanEntry> plan = plan_of(2, 3, 4);
  CHECK_FALSE(plan::read_plan(tree, plan));
  const plan::FrozenPlan frozen = plan::freeze(plan, lifelike_costs(plan, 3), 5);
  plan::write_plan(tree, config, plan, frozen);
  const auto again = plan::read_plan(tree, plan);
  REQUIRE(again);
  CHECK(again->shards == 5);
  CHECK(again->shard == frozen.shard);
  CHECK((again->estimates == frozen.estimates));
  // a task of the array takes the number of shards from it, whatever range was submitted
  CHECK(plan::cells_of_shard(plan, again, {.index = 0, .count = 0, .task = 3}) ==
        plan::cells_of_shard(plan, again, {.index = 3, .count = 5}));
  CHECK(plan::cells_of_shard(plan, again, {.index = 1, .count = 2, .task = 3}) ==
        plan::cells_of_shard(plan, again, {.index = 3, .count = 5}));
  CHECK_THROWS_AS(plan::cells_of_shard(plan, again, {.index = 0, .count = 0, .task = 6}), UserError);
  CHECK_THROWS_AS(plan::cells_of_shard(plan, std::nullopt, {.index = 0, .count = 0, .task = 1}), UserError);
  plan[3].planned.identity.subject.name = "other";
  plan[3].planned.seal();
  CHECK_FALSE(plan::read_plan(tree, plan));
  write_atomically(tree.plan(), "{\"cells\": [");
  CHECK_FALSE(plan::read_plan(tree, plan));
}

TEST_CASE("array ranges are written as Slurm reads them") {
  CHECK(plan::array_range({}).empty());
  CHECK(plan::array_range({4}) == "4");
  CHECK(plan::array_range({1, 2, 3}) == "1-3");
  CHECK(plan::array_range({2, 5, 6, 7, 9}) == "2,5-7,9");
}
