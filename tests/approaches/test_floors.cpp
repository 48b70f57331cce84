// Children of a genetic search that are left before they are judged on all inputs: nothing else may change.
#include <cmath>

#include "approaches/search/edit_evaluator.hpp"
#include "approaches/search/genetic.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness::test_floors {  // apart: files are compiled together
namespace {

using testing::branched_network;
using testing::tiny_data;
using testing::tiny_network;

// What a search did: every parent of every child, best individuals, and how many were left.
struct Told {
  std::vector<Edits> parents;
  std::vector<std::vector<Edits>> elites;
  std::vector<std::vector<search::GeneticScore>> scores;
  search::GeneticResult result;
  int64_t left = 0, seen = 0;
};

// A search for twelve values near targets; with `leaving`, what falls below the floor gets a bound in place
// of its score, at times the very one that proves it.
Told search_for(uint64_t seed, bool leaving, search::GeneticSettings settings) {
  Told told;
  const search::OriginalValues original(tiny_network());
  const auto score_of = [&](const Edits& edits) {
    search::GeneticScore score{0, 0, 0};
    for (int64_t place = 0; place < 12; ++place) {
      const double target = static_cast<double>(original.at(0, place)) + 0.2 * static_cast<double>(place % 5);
      const double error = std::abs(static_cast<double>(original.at(edits, 0, place)) - target);
      score.correct += error < 0.1;
      score.loss += error;
    }
    return score;
  };
  const search::GeneticProblem problem{
      .mutate =
          [&](const Edits& parent, int64_t, RandomStream& stream) {
            told.parents.push_back(parent);
            const int64_t place = stream.below(12);
            const double value = static_cast<double>(original.at(parent, 0, place)) + 0.2 * stream.normal();
            return search::with_edits(parent, {{0, place, static_cast<float>(value)}}, original);
          },
      .group =
          [](std::span<const Edits> individuals) {
            std::vector<std::vector<size_t>> groups(5);
            for (size_t i = 0; i < individuals.size(); ++i) groups[i % 5].push_back(i);
            return groups;
          },
      .evaluate =
          [&](std::span<const Edits> individuals, const search::GeneticScore& floor,
              std::span<search::GeneticScore> scores) {
            for (size_t k = 0; k < scores.size(); ++k) {
              scores[k] = score_of(individuals[k]);
              ++told.seen;
              if (!leaving || !search::falls_below(scores[k], floor)) continue;
              ++told.left;
              // Any bound that proves it does: of the count, or of the loss.
              if (scores[k].correct < floor.correct)
                scores[k] = {floor.correct - 1, 0, 0};
              else
                scores[k].loss = std::nextafter(floor.loss, 1e9);
              scores[k].left = true;
            }
            return true;
          }};
  const search::GeneticHooks hooks{
      .stop = {},
      .prepare = {},
      .after_group = {},
      .after_generation = [&](const search::GeneticState& state) {
        const auto elites = static_cast<size_t>(
            state.generation > settings.generations ? 1 : settings.elites);  // nothing follows the last one
        told.elites.emplace_back(state.population.begin(),
                                 state.population.begin() + static_cast<int64_t>(elites));
        told.scores.emplace_back(state.scores.begin(), state.scores.begin() + static_cast<int64_t>(elites));
        bool complete = true;  // those that were left come last
        for (const search::GeneticScore& score : state.scores) {
          REQUIRE((complete || score.left));
          complete = !score.left;
        }
      }};
  told.result = search::search_genetically(settings, search::seeded_breeding(seed, settings), problem, hooks);
  return told;
}

TEST_CASE("leaving hopeless children changes nothing that a genetic search reads", "[genetic]") {
  int64_t left = 0;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    for (const int64_t tournament : {1, 3, 6}) {
      const search::GeneticSettings settings{.population = seed % 2 == 0 ? 20 : 9,
                                             .elites = 1 + static_cast<int64_t>(seed % 3),
                                             .tournament = tournament,
                                             .crossover = 0.6,
                                             .generations = 25,
                                             .stall = 12,
                                             .perfect = 12};
      INFO("seed " << seed << ", tournaments of " << tournament);
      const Told all = search_for(seed, false, settings), some = search_for(seed, true, settings);
      REQUIRE((all.parents == some.parents));
      REQUIRE((all.elites == some.elites));
      REQUIRE((all.scores == some.scores));
      REQUIRE(all.result.state.series == some.result.state.series);
      REQUIRE(all.result.state.evaluations == some.result.state.evaluations);
      REQUIRE(all.result.generations == some.result.generations);
      REQUIRE(all.seen == some.seen);
      REQUIRE(all.left == 0);
      left += some.left;
    }
  }
  REQUIRE(left > 300);
}

TEST_CASE("what falls below a floor is worse, whatever is still to come", "[genetic]") {
  const double nan = std::nan("");
  const search::GeneticScore none, floor{5, 2.0, 7};
  REQUIRE_FALSE(search::falls_below({0, 1e9, 0}, none));
  REQUIRE(search::falls_below({4, 0, 0}, floor));
  REQUIRE(search::falls_below({5, 2.5, 0}, floor));
  REQUIRE_FALSE(search::falls_below({5, 2.0, 9}, floor));  // fewer changed values may follow
  REQUIRE_FALSE(search::falls_below({6, 1e9, 0}, floor));
  REQUIRE_FALSE(search::falls_below({5, nan, 0}, floor));
  REQUIRE_FALSE(search::falls_below({5, 1e9, 0}, {5, nan, 0}));  // which counts as infinite
  REQUIRE(search::better({1, 9.0, 9}, {7, 0.0, 0, true}));
}

InputSet whole_split() {
  InputSet all{.split = &tiny_data().split("repair"), .positions = {}, .negative = false};
  for (int64_t n = 0; n < all.split->size(); ++n) all.positions.push_back(n);
  return all;
}

search::EditEvaluator evaluator_on(const Network& network) {
  return search::EditEvaluator({.network = network,
                                .inputs = {whole_split()},
                                .objective = {.measure = search::Measure::losses, .value = {}},
                                .batching = 30});
}

// The kernel and bias of one layer, or of two, changed a little or a lot.
std::vector<Edits> individuals_of(const Network& network, bool two) {
  const search::OriginalValues original(network);
  std::vector<Edits> individuals;
  RandomStream stream(8);
  const std::vector<TargetLayer> layers = target_layers(network);
  for (int k = 0; k < 12; ++k) {
    Edits edits;
    for (size_t l = 0; l < (two ? 2u : 1u); ++l) {
      for (int place = 0; place < 4; ++place) {
        const ParameterId id = layers[layers.size() - 1 - l].weight;
        const int64_t index = stream.below(network.parameters()[id].value.numel());
        const double size = k % 2 == 0 ? 0.01 : 3;
        edits =
            search::with_edits(edits, {{id, index, static_cast<float>(size * stream.normal())}}, original);
      }
    }
    individuals.push_back(edits);
  }
  return individuals;
}

bool same(const search::Tally& a, const search::Tally& b) {
  return a.inputs == b.inputs && a.misses == b.misses && a.loss == b.loss;
}

TEST_CASE("hopeless individuals end early, and the others keep every bit", "[genetic]") {
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    for (const bool two : {false, true}) {
      const std::vector<Edits> individuals = individuals_of(*network, two);
      std::vector<search::Verdict> whole(individuals.size()), part(individuals.size());
      search::EditEvaluator evaluator = evaluator_on(*network);
      int64_t polls = 0, fewer = 0;
      REQUIRE(evaluator.judge(individuals, whole, [&] { return ++polls < 0; }));
      std::vector<int64_t> misses;
      for (const search::Verdict& verdict : whole) misses.push_back(verdict.positive.misses);
      std::sort(misses.begin(), misses.end());
      const int64_t floor = misses[misses.size() / 2];
      REQUIRE(misses.front() < floor);
      const auto hopeless = [&](const search::Verdict& verdict) { return verdict.positive.misses > floor; };
      REQUIRE(evaluator.judge(
          individuals, part, [&] { return ++fewer < 0; }, hopeless));
      int64_t early = 0;
      for (size_t k = 0; k < individuals.size(); ++k) {
        REQUIRE(hopeless(part[k]) == hopeless(whole[k]));
        if (!hopeless(whole[k])) REQUIRE(same(part[k].positive, whole[k].positive));
        REQUIRE(part[k].positive.misses <= whole[k].positive.misses);
        early += !same(part[k].positive, whole[k].positive);
      }
      REQUIRE(early > 0);
      if (two) REQUIRE(fewer < polls);  // of one layer, all share their passes
      // A group of nothing but hopeless ones ends after the first slab.
      REQUIRE(evaluator.judge(individuals, part, {}, [](const search::Verdict&) { return true; }));
      for (const search::Verdict& verdict : part) REQUIRE(verdict.positive.misses <= 30);
    }
  }
}

TEST_CASE("an evaluator begins with the inputs that are decided most narrowly", "[genetic]") {
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    search::EditEvaluator evaluator = evaluator_on(*network);
    const search::Verdict whole = evaluator.judge(Edits{});
    REQUIRE((whole.positive.misses > 3 && whole.positive.misses < 120));
    std::vector<search::Verdict> first(1);
    const Edits none;
    REQUIRE(evaluator.judge(std::span(&none, 1), first, {}, [](const search::Verdict&) { return true; }));
    // A slab has thirty: the misclassified inputs come before all others.
    REQUIRE(first[0].positive.misses == std::min<int64_t>(30, whole.positive.misses));
  }
}

}  // namespace
}  // namespace harness::test_floors
