#include <bit>
#include <chrono>
#include <cmath>
#include <thread>

#include "approaches/lp/max_rows.hpp"
#include "approaches/lp/minimal_change.hpp"
#include "approaches/search/move_search.hpp"
#include "tests/support.hpp"

namespace harness::lp {
namespace {

struct Layer {
  int features, classes;
  std::vector<double> phi, logits;
  std::vector<int64_t> labels;
  ClassDemands demands(double margin) const { return {features, classes, phi, logits, labels, margin}; }
};

Layer random_layer(uint64_t seed, int features, int classes, int points) {
  RandomStream random(seed);
  Layer layer{.features = features, .classes = classes, .phi = {}, .logits = {}, .labels = {}};
  for (int k = 0; k < points * features; ++k) layer.phi.push_back(std::max(0.0, random.normal()));
  for (int k = 0; k < points * classes; ++k) layer.logits.push_back(random.normal());
  for (int k = 0; k < points; ++k) layer.labels.push_back(random.below(classes));
  return layer;
}

// The least advantage of a label with the changed kernel.
double min_advantage(const Layer& layer, const std::vector<double>& change) {
  double min_value = kInfinity;
  for (size_t k = 0; k < layer.labels.size(); ++k) {
    std::vector<double> z(layer.logits.begin() + k * layer.classes,
                          layer.logits.begin() + (k + 1) * layer.classes);
    for (int c = 0; c < layer.classes; ++c) {
      for (int i = 0; i < layer.features; ++i)
        z[c] += change[c * layer.features + i] * layer.phi[k * layer.features + i];
    }
    for (int c = 0; c < layer.classes; ++c) {
      if (c != layer.labels[k]) min_value = std::min(min_value, z[layer.labels[k]] - z[c]);
    }
  }
  return min_value;
}

double norm_of(const std::vector<double>& change, Norm norm) {
  double size = 0;
  for (const double value : change)
    size = norm == Norm::linf ? std::max(size, std::abs(value)) : size + std::abs(value);
  return size;
}

// The textbook form: all rows at once, the size as columns of its own, nothing left out.
Solution textbook(const Layer& layer, double margin, Norm norm) {
  LinearProgram program;
  const int weights = layer.features * layer.classes;
  program.add_columns(weights, -kInfinity, kInfinity);
  const int size = program.add_columns(norm == Norm::linf ? 1 : weights, 0, kInfinity, 1);
  for (int w = 0; w < weights; ++w) {
    const int own = norm == Norm::linf ? size : size + w;
    program.add_row(std::vector{own, w}, std::vector{1.0, 1.0}, 0, kInfinity);
    program.add_row(std::vector{own, w}, std::vector{1.0, -1.0}, 0, kInfinity);
  }
  for (size_t k = 0; k < layer.labels.size(); ++k) {
    const auto y = static_cast<int>(layer.labels[k]);
    for (int j = 0; j < layer.classes; ++j) {
      if (j == y) continue;
      std::vector<int> columns;
      std::vector<double> values;
      for (int i = 0; i < layer.features; ++i) {
        columns.insert(columns.end(), {y * layer.features + i, j * layer.features + i});
        values.insert(values.end(), {layer.phi[k * layer.features + i], -layer.phi[k * layer.features + i]});
      }
      const double gap = layer.logits[k * layer.classes + y] - layer.logits[k * layer.classes + j];
      program.add_row(columns, values, margin - gap, kInfinity);
    }
  }
  return program.solve();
}

TEST_CASE("the least change for one point has a closed form", "[lp][3m]") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Layer layer = random_layer(seed, 7, 4, 1);
    double largest = 0, sum = 0, needed = 0;
    for (const double value : layer.phi) {
      largest = std::max(largest, value);
      sum += value;
    }
    for (int j = 0; j < 4; ++j) {
      if (j != layer.labels[0])
        needed = std::max(needed, 0.01 - (layer.logits[layer.labels[0]] - layer.logits[j]));
    }
    const MinimalChange linf = minimal_class_change(layer.demands(0.01), Norm::linf, {});
    REQUIRE(linf.outcome == Outcome::optimal);
    REQUIRE(linf.size == Approx(needed / (2 * sum)).margin(1e-12));
    REQUIRE(norm_of(linf.change, Norm::linf) == Approx(linf.size).margin(1e-12));
    if (needed == 0) {
      REQUIRE(linf.rounds == 0);
      continue;
    }
    // Two classes: a single weight changes.
    const Layer two = random_layer(seed + 100, 7, 2, 1);
    const double gap = two.logits[two.labels[0]] - two.logits[1 - two.labels[0]];
    const MinimalChange l1 = minimal_class_change(two.demands(0.01), Norm::l1, {});
    REQUIRE(l1.size == Approx(std::max(0.0, 0.01 - gap) / *std::ranges::max_element(two.phi)).margin(1e-12));
    REQUIRE(std::ranges::count_if(l1.change, [](double value) { return value != 0; }) ==
            (gap < 0.01 ? 1 : 0));
  }
}

TEST_CASE("the least change is that of the textbook form", "[lp][3m]") {
  int infeasible = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const Layer layer = random_layer(seed, 6, 4, 2 + static_cast<int>(seed) * 2);
    for (const Norm norm : {Norm::linf, Norm::l1}) {
      const Solution expected = textbook(layer, 0.01, norm);
      const MinimalChange found = minimal_class_change(layer.demands(0.01), norm, {});
      INFO("seed " << seed);
      REQUIRE(found.outcome == expected.outcome);
      if (!expected.optimal()) {
        REQUIRE(found.outcome == Outcome::infeasible);
        REQUIRE(found.change.empty());
        ++infeasible;
        continue;
      }
      REQUIRE(found.size == Approx(expected.objective).epsilon(1e-8));
      REQUIRE(norm_of(found.change, norm) == Approx(found.size).epsilon(1e-8));
      REQUIRE(min_advantage(layer, found.change) >= 0.01 - 2e-6);
      REQUIRE(found.rows < static_cast<int>(layer.labels.size()) * 3 + 1);
    }
  }
  REQUIRE(infeasible > 0);
  REQUIRE(infeasible < 24);
}

TEST_CASE("features that are zero and classes that do not compete keep their weights", "[lp][3m]") {
  Layer layer = random_layer(1, 5, 4, 2);
  layer.labels = {0, 1};
  layer.logits = {0, 1, -90, -90, 1, 0, -90, -90};
  layer.phi[3] = layer.phi[8] = 0;
  layer.phi[0] = layer.phi[5] = 1;
  layer.phi[6] = 4;
  for (const Norm norm : {Norm::linf, Norm::l1}) {
    const MinimalChange found = minimal_class_change(layer.demands(0.5), norm, {});
    REQUIRE(found.outcome == Outcome::optimal);
    for (int c = 0; c < 4; ++c) REQUIRE(found.change[c * 5 + 3] == 0);
    for (int k = 10; k < 20; ++k) REQUIRE(found.change[k] == 0);
  }
  REQUIRE(minimal_class_change(layer.demands(0.5), Norm::linf, {.seconds = 0}).outcome ==
          Outcome::time_limit);
}

TEST_CASE("the least change of one unit", "[lp][3m]") {
  const std::vector<double> phi = {1, 0, 3, 0.5, 2, 0}, values = {0.4, 0.2};
  // One point: the wanted difference over the sum, or the largest, of what it reads.
  const std::span<const double> one(phi.data(), 3), value(values.data(), 1);
  const std::vector<double> wanted = {1.4}, off = {0}, same = {0.4};
  REQUIRE(minimal_unit_change({3, one, value, wanted}, Norm::linf, {}).size == Approx(1.0 / 4));
  REQUIRE(minimal_unit_change({3, one, value, wanted}, Norm::l1, {}).size == Approx(1.0 / 3));
  REQUIRE(minimal_unit_change({3, one, value, off}, Norm::linf, {}).size == Approx(0.4 / 4));
  REQUIRE(minimal_unit_change({3, one, value, same}, Norm::linf, {}).size == 0);
  // Two points: one is met exactly, the other switched off.
  const std::vector<double> both = {1.4, 0};
  for (const Norm norm : {Norm::linf, Norm::l1}) {
    const MinimalChange found = minimal_unit_change({3, phi, values, both}, norm, {});
    REQUIRE(found.outcome == Outcome::optimal);
    REQUIRE(0.4 + found.change[0] + 3 * found.change[2] == Approx(1.4));
    REQUIRE(0.2 + 0.5 * found.change[0] + 2 * found.change[1] <= 1e-7);
    REQUIRE(found.size == Approx(norm == Norm::linf ? 0.25 : 1.0 / 3 + 0.1));
  }
  // Equal inputs cannot give different values.
  const std::vector<double> twice = {1, 2, 1, 2}, start = {0.1, 0.1}, apart = {1, 2};
  REQUIRE(minimal_unit_change({2, twice, start, apart}, Norm::l1, {}).outcome == Outcome::infeasible);
  REQUIRE(minimal_unit_change({2, twice, start, apart}, Norm::linf, {}).outcome == Outcome::infeasible);
}

// Fewest violated soft rows by trying every subset of them as hard rows; then the least sum.
std::pair<int, double> every_subset(int size, const std::vector<Row>& hard, const std::vector<Row>& soft,
                                    double bound) {
  std::pair<int, double> best = {static_cast<int>(soft.size()) + 1, kInfinity};
  for (unsigned set = 0; set < 1u << soft.size(); ++set) {
    const int violated = static_cast<int>(soft.size()) - std::popcount(set);
    if (violated > best.first) continue;
    LinearProgram program;
    program.add_columns(2 * size, 0, bound, 1);
    const auto add = [&](const Row& row) {
      std::vector<double> values = row.values;
      for (const double value : row.values) values.push_back(-value);
      program.add_dense_row(0, values, row.min_value, kInfinity);
    };
    for (const Row& row : hard) add(row);
    for (size_t k = 0; k < soft.size(); ++k) {
      if (set >> k & 1) add(soft[k]);
    }
    const Solution found = program.solve();
    if (found.optimal()) best = std::min(best, {violated, found.objective});
  }
  return best;
}

TEST_CASE("as many soft rows as any subset allows", "[lp][nnr]") {
  for (uint64_t seed = 0; seed < 15; ++seed) {
    RandomStream random(seed);
    std::vector<Row> hard, soft;
    for (int k = 0; k < 12; ++k) {
      Row row;
      for (int i = 0; i < 3; ++i) row.values.push_back(random.normal());
      row.min_value = random.uniform(k < 4 ? -1 : -0.2, k < 4 ? 0 : 0.8);
      (k < 4 ? hard : soft).push_back(row);
    }
    const MaxRows found = satisfy_max_rows(3, hard, soft, 0.5, {});
    const auto [violated, sum] = every_subset(3, hard, soft, 0.5);
    INFO("seed " << seed);
    REQUIRE(found.outcome == Outcome::optimal);
    REQUIRE(found.violated == violated);
    REQUIRE(norm_of(found.s, Norm::l1) == Approx(sum).margin(1e-6));
    REQUIRE(norm_of(found.s, Norm::linf) <= 0.5);
    const auto misses = [&](const Row& row) {
      double value = 0;
      for (int i = 0; i < 3; ++i) value += row.values[i] * found.s[i];
      return value < row.min_value - 1e-6;
    };
    REQUIRE(std::ranges::none_of(hard, misses));
    REQUIRE(std::ranges::count_if(soft, misses) == violated);
  }
  const std::vector<Row> contradiction = {{{1}, 0.1}, {{-1}, 0.1}}, none;
  REQUIRE(satisfy_max_rows(1, contradiction, none, 1, {}).outcome == Outcome::infeasible);
  REQUIRE(satisfy_max_rows(1, none, contradiction, 1, {}).violated == 1);
  REQUIRE(satisfy_max_rows(1, none, contradiction, 1, {.seconds = 0}).s.empty());
}

// A solver asks `stop` whenever it looks at its limits and the last time was a while ago. Where asking takes
// long, it asks every time, which is as often each time, and nothing else takes long.
TEST_CASE("both programs of the most rows share one time limit, and a stop in either leaves nothing",
          "[lp][nnr]") {
  constexpr double kAsking = 0.15;
  const std::vector<Row> none, rows = {{{1, 1}, 0.3}, {{1, -1}, 0.1}, {{-1, 0}, -0.9}};
  int polls = 0, stop_at = 0;
  const auto slow = [&] {
    std::this_thread::sleep_for(std::chrono::duration<double>(kAsking));
    return ++polls == stop_at;
  };
  const MaxRows whole = satisfy_max_rows(2, none, rows, 1, {.stop = slow});
  REQUIRE(whole.programs == 2);
  REQUIRE(whole.least);
  const int all = polls;
  for (stop_at = 1; stop_at < 6; ++stop_at) {
    polls = 0;
    const MaxRows stopped = satisfy_max_rows(2, none, rows, 1, {.stop = slow});
    INFO("stopped at " << stop_at << " in program " << stopped.programs);
    REQUIRE(stopped.outcome == Outcome::stopped);
    REQUIRE(stopped.s.empty());
  }
  stop_at = 0;
  // A limit that each program keeps and both together do not.
  const MaxRows late = satisfy_max_rows(2, none, rows, 1, {.seconds = 0.75 * kAsking * all, .stop = slow});
  REQUIRE(late.outcome == Outcome::optimal);
  REQUIRE(late.programs == 2);
  REQUIRE(late.violated == whole.violated);
  REQUIRE_FALSE(late.s.empty());
  REQUIRE_FALSE(late.least);
}

// Least at (3, -2, 0, ...), where it is 1.
double bowl(const std::vector<int64_t>& o) {
  double cost = 1;
  for (size_t k = 0; k < o.size(); ++k) {
    const double away = static_cast<double>(o[k] - (k == 0 ? 3 : k == 1 ? -2 : 0));
    cost += away * away;
  }
  return cost;
}

TEST_CASE("searches by single moves", "[3m]") {
  const auto always = [](const search::MoveSearchState&) { return true; };
  for (const search::MoveHeuristic heuristic :
       {search::MoveHeuristic::random, search::MoveHeuristic::greedy, search::MoveHeuristic::mcts}) {
    const search::MoveSearchSettings settings{
        .heuristic = heuristic, .positions = 3, .proposals = 400, .depth = 6, .width = 40, .seed = 5};
    int64_t evaluations = 0;
    const search::MoveCost cost = [&](const std::vector<int64_t>& o) {
      ++evaluations;
      return bowl(o);
    };
    const search::MoveSearchState whole =
        search::search_moves(settings, bowl({0, 0, 0}), cost, always, std::nullopt);
    REQUIRE(whole.proposals == evaluations);
    REQUIRE(whole.best_cost == bowl(whole.best));
    REQUIRE(whole.best_cost < 6);
    if (heuristic == search::MoveHeuristic::greedy) {
      REQUIRE(whole.best == std::vector<int64_t>{3, -2, 0});
      REQUIRE(whole.ended);
      REQUIRE(whole.proposals == 6 * 40);  // five steps and a round without one
    } else {
      REQUIRE(whole.proposals == 400);
    }
    // Nothing better than the start: it stays.
    const search::MoveSearchState none = search::search_moves(settings, 0.5, cost, always, std::nullopt);
    REQUIRE(none.best == std::vector<int64_t>(3, 0));
    REQUIRE(none.best_cost == 0.5);
    for (const int64_t at : {0, 1, 57, 100}) {
      CheckpointState tensors;
      const search::MoveSearchState part = search::search_moves(
          settings, bowl({0, 0, 0}), cost,
          [at](const search::MoveSearchState& now) { return now.proposals < at; }, std::nullopt);
      REQUIRE(part.proposals == at);
      part.save(tensors);
      const search::MoveSearchState rest =
          search::search_moves(settings, 99, cost, always, search::MoveSearchState::load(tensors));
      REQUIRE(rest.best == whole.best);
      REQUIRE(rest.best_cost == whole.best_cost);
      REQUIRE(rest.proposals == whole.proposals);
      REQUIRE(rest.tree == whole.tree);
      REQUIRE(rest.rewards == whole.rewards);
      // Interrupted within a proposal: it does not count.
      int64_t left = at, polls = 0;
      const search::MoveSearchState broken = search::search_moves(
          settings, bowl({0, 0, 0}),
          [&](const std::vector<int64_t>& o) { return left-- > 0 ? std::optional(bowl(o)) : std::nullopt; },
          [&](const search::MoveSearchState&) { return ++polls > 0; }, std::nullopt);
      REQUIRE(polls == at + 2);
      REQUIRE(broken.proposals == at);
      REQUIRE(broken.best == part.best);
      REQUIRE(broken.candidate == part.candidate);
      REQUIRE(broken.tree == part.tree);
      REQUIRE(broken.rewards == part.rewards);
    }
  }
}

TEST_CASE("tree search comes back to what has paid", "[3m]") {
  // Only +1 at position 1 helps; its child of the root is visited most.
  const search::MoveSearchSettings settings{.heuristic = search::MoveHeuristic::mcts,
                                            .positions = 2,
                                            .proposals = 300,
                                            .depth = 1,
                                            .width = 1,
                                            .seed = 1};
  const search::MoveSearchState state = search::search_moves(
      settings, 1, [](const std::vector<int64_t>& o) { return o[1] == 1 ? 0.5 : 50.0; },
      [](const search::MoveSearchState&) { return true; }, std::nullopt);
  REQUIRE(state.best == std::vector<int64_t>{0, 1});
  REQUIRE(state.rewards.size() == 5);
  REQUIRE(state.tree[2] == 300);
  for (size_t node = 1; node < 5; ++node) {
    if (state.tree[3 * node + 1] == 2)
      REQUIRE(state.tree[3 * node + 2] > 200);
    else
      REQUIRE(state.tree[3 * node + 2] < 40);
  }
}

}  // namespace
}  // namespace harness::lp
