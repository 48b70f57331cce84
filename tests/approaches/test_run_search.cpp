#include "approaches/search/run_search.hpp"

#include <set>

#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

constexpr double kTarget = 0.25;  // what both numbers are searched for

// One weight of the tiny network, and another one.
const std::vector<WeightRef> kWeights = {{0, 3}, {0, 1}};

struct Search {
  std::optional<CheckpointState> saved = {};  // gone on from
  int64_t stop_at = -1;                       // poll
  bool due = false;                           // every checkpoint
  bool better = true;                         // than the original
  search::SearchStage stage = {};

  std::vector<CheckpointState> saves = {};
  std::vector<std::pair<double, std::string>> progress = {};
  int64_t polls = 0;
  FixLog log = {};

  FixResult run() {
    FixContext::Setup setup = setup_for("NONE");
    setup.stop = [this] { return polls++ >= stop_at && stop_at >= 0; };
    setup.progress = [this](double done, const std::string& what) { progress.emplace_back(done, what); };
    setup.checkpoint = {
        .load = [this] { return saved; },
        .save = [this](const CheckpointState& state, const FixLog&) { saves.push_back(state); },
        .due = [this] { return due; }};
    FixContext context(std::move(setup));
    stage.save = [](CheckpointState& tensors) { tensors["weights"] = weight_table(kWeights); };
    const search::SwarmSettings settings{
        .dimensions = std::vector<search::SwarmDimension>(2, {.deviation = 1}),
        .particles = 4,
        .iterations = 6,
        .rule = search::Constriction{}};
    const auto evaluate = [](std::span<const double> candidates, std::span<double> fitness) {
      for (size_t k = 0; k < fitness.size(); ++k)
        fitness[k] = -std::abs(candidates[2 * k] - kTarget) - std::abs(candidates[2 * k + 1] - kTarget);
    };
    FixResult result =
        search::run_search(tiny_network(), context, search::particle_swarm(settings, 5, evaluate), stage,
                           [this](const search::SearchResult& found) -> search::Judged {
                             return {.original = -1,
                                     .best = found.best_fitness,
                                     .edits = edits_of(kWeights, found.best),
                                     .limitation = better ? "" : "no candidate was better"};
                           });
    log = context.log();
    return result;
  }
};

}  // namespace

TEST_CASE("a search becomes a fix: values, touched weights, counters, progress") {
  Search search;
  search.due = true;
  const FixResult result = search.run();
  REQUIRE(result.network);
  REQUIRE(result.note.empty());
  const std::string name = tiny_network().parameters()[0].name;
  REQUIRE(result.touched.weights.at(name) == std::vector<int64_t>{3, 1});
  const auto changed = changed_values(tiny_network(), *result.network);
  REQUIRE((changed == std::vector<std::pair<std::string, int64_t>>{{name, 1}, {name, 3}}));
  REQUIRE((search.log.counters == std::map<std::string, int64_t>{{"evaluations", 28}, {"iterations", 6}}));
  REQUIRE(search.log.scalars.at("original_fitness") == -1);
  REQUIRE(search.log.scalars.at("best_fitness") == search.log.series.at("best_fitness").back());
  REQUIRE(search.log.series.at("best_fitness").size() == 7);
  REQUIRE(search.progress.size() == 7);
  REQUIRE((search.progress.back() == std::pair<double, std::string>{1, "search"}));
  REQUIRE(search.saves.size() == 7);
  for (const CheckpointState& saved : search.saves) {
    REQUIRE((weights_of(saved.at("weights")) == kWeights));
    Search again{.saved = saved};
    REQUIRE(again.run().network->digest() == result.network->digest());
    REQUIRE((again.log.counters == search.log.counters));
    REQUIRE((again.log.series == search.log.series));
  }
}

TEST_CASE("a stopped search is saved and says so; before the first round is over it is a FAILURE") {
  Search whole;
  const std::string digest = whole.run().network->digest();
  Search stopped{.stop_at = 3};
  REQUIRE(stopped.run().note == "stopped after 2 iterations");
  REQUIRE(stopped.saves.size() == 1);
  Search again{.saved = stopped.saves[0]};
  REQUIRE(again.run().network->digest() == digest);

  Search none{.stop_at = 0, .stage = {.first = "swarm was made"}};
  const FixResult result = none.run();
  REQUIRE_FALSE(result.network);
  REQUIRE(result.failure.code == "timeout");
  REQUIRE(result.failure.text == "stopped before the first swarm was made: 0 of 4 candidates were evaluated");
  REQUIRE(none.saves.size() == 1);
}

TEST_CASE("a search that finds nothing better returns the original with a note") {
  Search search{.better = false};
  FixResult result = search.run();
  REQUIRE(result.network->digest() == tiny_network().digest());
  REQUIRE(result.touched.weights.empty());
  REQUIRE(result.note == "returned the original: no candidate was better");
  Search stopped{.stop_at = 2, .better = false};
  result = stopped.run();
  REQUIRE(result.note == "stopped after 1 iterations; returned the original: no candidate was better");
}

TEST_CASE("one search of several: its place in the progress, its names, whose checkpoint it is") {
  Search whole;
  whole.due = true;
  const std::string digest = whole.run().network->digest();
  Search second{
      .saved = whole.saves[2],
      .stage = {
          .what = "part", .measured = "score", .log_series = false, .number = 1, .of = 2, .resumes = false}};
  REQUIRE(second.run().network->digest() == digest);
  REQUIRE(second.progress.size() == 7);  // from its beginning
  REQUIRE((second.progress.front() == std::pair<double, std::string>{(1 + 1.0 / 7) / 2, "part"}));
  REQUIRE(second.log.series.empty());
  REQUIRE(second.log.scalars.count("best_score") == 1);
}

namespace {

// What each optimiser finds of the tiny network's weights when it is stopped at a poll; a candidate is worth
// its first number.
search::SearchResult stopped_search(const std::string& kind, int64_t stop_at, std::string* failure) {
  FixContext::Setup setup = setup_for("NONE");
  setup.stop = [stop_at]() mutable { return stop_at-- <= 0; };
  FixContext context(std::move(setup));
  const auto evaluate = [](std::span<const double> candidates, std::span<double> fitness) {
    for (size_t k = 0; k < fitness.size(); ++k) fitness[k] = candidates[2 * k];
  };
  search::Optimiser optimiser;
  if (kind == "evolution" || kind == "evolution, together") {
    search::EvolutionSettings settings{.dimensions = {{-1, 1, 0, 1}, {-1, 1, 0, 1}},
                                       .population = 6,
                                       .generations = 2,
                                       .together = kind == "evolution" ? 1 : 4};
    optimiser = search::differential_evolution(
        settings, 3, [=](auto candidates, auto, auto fitness) { evaluate(candidates, fitness); });
  } else if (kind == "genetic") {
    optimiser =
        search::genetic_search({.population = 6, .generations = 2}, 3,
                               {.mutate =
                                    [](const Edits&, int64_t, RandomStream& stream) {
                                      return Edits{{0, stream.below(6), static_cast<float>(stream.normal())}};
                                    },
                                .group =
                                    [](std::span<const Edits> individuals) {
                                      std::vector<std::vector<size_t>> groups(individuals.size());
                                      for (size_t k = 0; k < groups.size(); ++k) groups[k] = {k};
                                      return groups;
                                    },
                                .evaluate =
                                    [](std::span<const Edits> individuals, const search::GeneticScore&,
                                       std::span<search::GeneticScore> scores) {
                                      for (size_t k = 0; k < scores.size(); ++k)
                                        scores[k] = {static_cast<int64_t>(individuals[k].size()), 0, 0};
                                      return true;
                                    }},
                               [](const search::GeneticState&, const auto&) { return true; });
  } else {
    search::SwarmSettings settings{.dimensions = std::vector<search::SwarmDimension>(2, {.deviation = 1}),
                                   .particles = 6,
                                   .iterations = 2};
    if (kind == "constriction") settings.rule = search::Constriction{};
    optimiser = search::particle_swarm(settings, 3, evaluate);
  }
  search::SearchResult found;
  const search::Optimiser kept = [&](const search::SearchWatch& watch) { return found = optimiser(watch); };
  const FixResult result =
      search::run_search(tiny_network(), context, kept, {}, [](const search::SearchResult&) {
        return search::Judged{.original = 0, .best = 1, .edits = {}, .limitation = ""};
      });
  *failure = result.network ? "" : result.failure.code + ": " + result.failure.text;
  return found;
}

}  // namespace

TEST_CASE(
    "whatever the optimiser, an unfinished first population is no result, and the reason says how far") {
  for (const std::string kind : {"evolution", "evolution, together", "genetic", "constriction", "inertia"}) {
    INFO(kind);
    bool was_found = false;
    std::set<int64_t> unfinished;
    for (int64_t stop_at = 0; stop_at < 40; ++stop_at) {
      std::string failure;
      const search::SearchResult found = stopped_search(kind, stop_at, &failure);
      REQUIRE(found.first_size == 6);
      REQUIRE(found.found == (found.first_evaluated == 6 && !found.series.empty()));
      REQUIRE(found.found >= was_found);  // later stops lose nothing
      was_found = found.found;
      if (!found.found) {
        REQUIRE(found.evaluations == found.first_evaluated);
        REQUIRE(failure == "timeout: stopped before the first population was complete: " +
                               std::to_string(found.first_evaluated) + " of 6 candidates were evaluated");
        unfinished.insert(found.first_evaluated);
      } else {
        REQUIRE(failure.empty());
        REQUIRE(found.evaluations >= 6);
      }
    }
    REQUIRE(was_found);
    REQUIRE(unfinished.count(0) == 1);
    if (kind == "evolution") REQUIRE(unfinished == std::set<int64_t>{0, 1, 2, 3, 4, 5});
    if (kind == "evolution, together") REQUIRE(unfinished == std::set<int64_t>{0, 4});
  }
}
