#include <cmath>
#include <limits>
#include <set>

#include "approaches/search/edit_evaluator.hpp"
#include "approaches/search/edits.hpp"
#include "approaches/search/genetic.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::branched_network;
using testing::changed_values;
using testing::tiny_data;
using testing::tiny_network;

bool is_sorted_set(const Edits& edits) {
  for (size_t k = 1; k < edits.size(); ++k) {
    if (std::pair(edits[k - 1].parameter, edits[k - 1].index) >=
        std::pair(edits[k].parameter, edits[k].index))
      return false;
  }
  return true;
}

// Random values at `count` random places of the given parameters.
Edits random_edits(const Network& network, const std::vector<ParameterId>& parameters, int64_t count,
                   RandomStream& stream) {
  const search::OriginalValues original(network);
  Edits edits;
  for (int64_t k = 0; k < count; ++k) {
    const ParameterId id = parameters[stream.below(static_cast<int64_t>(parameters.size()))];
    const int64_t index = stream.below(network.parameters()[id].value.numel());
    edits = search::with_edits(edits, {{id, index, static_cast<float>(2 * stream.normal())}}, original);
  }
  return edits;
}

std::vector<ParameterId> float_parameters(const Network& network) {
  std::vector<ParameterId> ids;
  for (size_t id = 0; id < network.parameters().size(); ++id) {
    if (network.parameters()[id].trainable && network.node_of(static_cast<ParameterId>(id)) >= 0) {
      ids.push_back(static_cast<ParameterId>(id));
    }
  }
  return ids;
}

TEST_CASE("edits are the difference to the original", "[genetic]") {
  const Network& network = tiny_network();
  const search::OriginalValues original(network);
  RandomStream stream(4);
  const Edits edits = random_edits(network, float_parameters(network), 40, stream);
  REQUIRE(edits.size() > 30);
  REQUIRE(is_sorted_set(edits));

  Network changed = network.fork();
  apply_edits(changed, edits);
  const auto found = changed_values(network, changed);
  REQUIRE(found.size() == edits.size());
  for (const Edit& edit : edits) {
    const Parameter& parameter = changed.parameters()[edit.parameter];
    REQUIRE(parameter.value.contiguous().data_ptr<float>()[edit.index] == edit.value);
    REQUIRE(std::count(found.begin(), found.end(), std::pair(parameter.name, edit.index)) == 1);
    REQUIRE(original.at(edits, edit.parameter, edit.index) == edit.value);
  }
  const auto tensors = overrides(network, edits);
  for (size_t id = 0; id < network.parameters().size(); ++id) {
    const auto tensor = tensors.find(static_cast<ParameterId>(id));
    const bool touched = std::any_of(edits.begin(), edits.end(), [&](const Edit& edit) {
      return edit.parameter == static_cast<ParameterId>(id);
    });
    REQUIRE((tensor != tensors.end()) == touched);
    if (touched) REQUIRE(at::equal(tensor->second, changed.parameters()[id].value));
  }
  size_t declared = 0;
  for (const auto& [name, indices] : touched_by(network, edits).weights) declared += indices.size();
  REQUIRE(declared == edits.size());
}

TEST_CASE("newer edits win, and a value set back is no edit", "[genetic]") {
  const search::OriginalValues original(tiny_network());
  const Edits base = {{0, 3, 9.0f}, {0, 8, 1.0f}, {2, 0, 5.0f}};
  const Edits merged =
      search::with_edits(base, {{2, 1, 7.0f}, {0, 8, 2.0f}, {0, 3, original.at(0, 3)}}, original);
  REQUIRE((merged == Edits{{0, 8, 2.0f}, {2, 0, 5.0f}, {2, 1, 7.0f}}));
  REQUIRE(original.at(base, 0, 3) == 9.0f);
  REQUIRE(original.at(base, 0, 4) == original.at(0, 4));
}

TEST_CASE("a child takes every place from one of its parents", "[genetic]") {
  RandomStream stream(6);
  const Edits a = random_edits(tiny_network(), {0, 1, 2}, 60, stream);
  const Edits b = random_edits(tiny_network(), {0, 1, 3}, 60, stream);
  std::map<std::pair<ParameterId, int64_t>, std::set<float>> allowed;
  const auto value_in = [](const Edits& edits, const Edit& place) {
    for (const Edit& edit : edits) {
      if (edit.parameter == place.parameter && edit.index == place.index) return std::optional(edit.value);
    }
    return std::optional<float>();
  };
  int64_t from_a = 0, from_b = 0, places = 0;
  for (int round = 0; round < 20; ++round) {
    const Edits child = search::cross(a, b, stream);
    REQUIRE(is_sorted_set(child));
    for (const Edit& edit : child) {
      REQUIRE((value_in(a, edit) == edit.value || value_in(b, edit) == edit.value));
    }
    for (const Edits* parent : {&a, &b}) {
      for (const Edit& edit : *parent) {
        const Edits& other = parent == &a ? b : a;
        if (value_in(other, edit)) {
          REQUIRE(value_in(child, edit));  // changed in both: changed in the child
          continue;
        }
        ++places;
        (parent == &a ? from_a : from_b) += value_in(child, edit).has_value();
      }
    }
  }
  // Half of the places that one parent alone changed: 20 rounds of some 75 places.
  REQUIRE(places > 1400);
  REQUIRE(std::abs(static_cast<double>(from_a + from_b) / static_cast<double>(places) - 0.5) < 0.05);
  REQUIRE((from_a > 0 && from_b > 0));
  REQUIRE((search::cross(a, a, stream) == a));
}

TEST_CASE("individuals survive a checkpoint", "[genetic]") {
  RandomStream stream(7);
  std::vector<Edits> individuals = {{}};
  for (int64_t size : {5, 0, 31, 1})
    individuals.push_back(random_edits(tiny_network(), {0, 2, 4}, size, stream));
  individuals.push_back({{1, 2, std::numeric_limits<float>::denorm_min()}, {1, 3, -0.0f}});
  std::map<std::string, at::Tensor> tensors;
  search::save_edits(individuals, "x", tensors);
  const std::vector<Edits> again = search::load_edits("x", tensors);
  REQUIRE((again == individuals));
  REQUIRE(std::signbit(again.back()[1].value));
  search::save_edits({}, "none", tensors);
  REQUIRE(search::load_edits("none", tensors).empty());
}

// All inputs of the repair split, those at even positions to be fixed.
std::vector<InputSet> halves() {
  const Split& split = tiny_data().split("repair");
  InputSet even{.split = &split, .positions = {}, .negative = true},
      odd{.split = &split, .positions = {}, .negative = false};
  for (int64_t n = 0; n < split.size(); ++n) (n % 2 == 0 ? even : odd).positions.push_back(n);
  return {odd, even};
}

search::EditEvaluator evaluator_on(const Network& network, int64_t batch, int64_t limit = int64_t{2} << 30) {
  return search::EditEvaluator({.network = network,
                                .inputs = halves(),
                                .objective = {.measure = search::Measure::losses, .value = {}},
                                .batching = batch,
                                .cache_limit = limit});
}

// What a network that carries the edits says, in the order of the evaluator's inputs.
at::Tensor whole_logits(const Network& network, const Edits& edits) {
  Network changed = network.fork();
  apply_edits(changed, edits);
  const search::SearchInputs inputs(network, halves());
  return changed.logits(inputs.load(at::arange(inputs.size())));
}

void require_agreement(const Network& network, search::EditEvaluator& evaluator,
                       std::span<const Edits> individuals) {
  std::vector<search::Verdict> verdicts(individuals.size());
  REQUIRE(evaluator.judge(individuals, verdicts));
  const search::SearchInputs& inputs = evaluator.inputs();
  for (size_t k = 0; k < individuals.size(); ++k) {
    const at::Tensor expected = whole_logits(network, individuals[k]);
    const double scale = expected.abs().max().item<double>();
    const at::Tensor found = evaluator.logits(individuals[k]);
    REQUIRE((found - expected).abs().max().item<double>() <= 1e-5 * scale);
    const at::Tensor correct = expected.argmax(1).eq(inputs.labels());
    const at::Tensor losses = at::cross_entropy_loss(expected, inputs.labels(), {}, at::Reduction::None);
    for (const bool negative : {false, true}) {
      const at::Tensor own = inputs.negative().eq(negative);
      const search::Tally& tally = negative ? verdicts[k].negative : verdicts[k].positive;
      REQUIRE(tally.inputs == 60);
      REQUIRE(tally.correct() == correct.logical_and(own).sum().item<int64_t>());
      REQUIRE(tally.loss == Approx((losses * own).sum().item<double>()).epsilon(1e-4).margin(1e-4 * scale));
    }
  }
}

TEST_CASE("individuals are judged as networks that carry their edits", "[genetic]") {
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    search::EditEvaluator evaluator = evaluator_on(*network, 50), uncached = evaluator_on(*network, 37, 0);
    RandomStream stream(9);
    const std::vector<ParameterId> all = float_parameters(*network);
    std::vector<Edits> individuals = {{}};
    // Some places of one parameter, of the kernel and bias of one layer, of any parameters.
    for (const ParameterId id : all) {
      individuals.push_back(random_edits(*network, {id}, 1 + stream.below(6), stream));
      individuals.push_back(random_edits(*network, {id}, 1 + stream.below(6), stream));
      std::vector<ParameterId> layer;
      for (const ParameterId own : network->nodes()[network->node_of(id)].parameters) {
        if (own >= 0 && network->parameters()[own].trainable) layer.push_back(own);
      }
      individuals.push_back(random_edits(*network, layer, 8, stream));
      individuals.push_back(random_edits(*network, all, 1 + stream.below(12), stream));
    }
    require_agreement(*network, evaluator, individuals);
    require_agreement(*network, uncached, individuals);
    REQUIRE(evaluator.cached_bytes() > 0);
    REQUIRE(uncached.cached_bytes() == 0);
  }
}

TEST_CASE("groups hold every individual once, and are groups by themselves", "[genetic]") {
  RandomStream stream(10);
  search::EditEvaluator evaluator = evaluator_on(branched_network(), 50);
  std::vector<Edits> individuals;
  for (int k = 0; k < 60; ++k) {
    individuals.push_back(
        random_edits(branched_network(), float_parameters(branched_network()), stream.below(3), stream));
  }
  std::set<size_t> seen;
  bool several = false;
  for (const std::vector<size_t>& group : evaluator.groups(individuals)) {
    several |= group.size() > 1;
    std::vector<Edits> alone;
    for (const size_t i : group) {
      REQUIRE(seen.insert(i).second);
      alone.push_back(individuals[i]);
    }
    const auto again = evaluator.groups(alone);
    REQUIRE(again.size() == 1);
    REQUIRE(again[0].size() == alone.size());
    REQUIRE(std::is_sorted(again[0].begin(), again[0].end()));
  }
  REQUIRE(several);
  REQUIRE(seen.size() == individuals.size());
}

TEST_CASE("cached values stay within the limit and change no bit", "[genetic]") {
  RandomStream stream(11);
  const Network& network = branched_network();
  std::vector<Edits> individuals;
  for (const ParameterId id : float_parameters(network))
    individuals.push_back(random_edits(network, {id}, 3, stream));
  const int64_t inputs = 120 * 2 * 64 * 4;  // bytes of what the first convolution reads
  search::EditEvaluator plenty = evaluator_on(network, 50),
                        scarce = evaluator_on(network, 50, inputs * 5 / 2);
  std::vector<at::Tensor> logits;
  for (const Edits& individual : individuals) logits.push_back(plenty.logits(individual));
  REQUIRE(plenty.cached_bytes() > inputs * 5 / 2);
  for (int round = 0; round < 2; ++round) {
    for (size_t k = 0; k < individuals.size(); ++k) {
      const size_t at = round == 0 ? k : individuals.size() - 1 - k;
      REQUIRE(at::equal(scarce.logits(individuals[at]), logits[at]));
      REQUIRE(scarce.cached_bytes() <= inputs * 5 / 2);
    }
  }
  REQUIRE(scarce.cached_bytes() > 0);
}

TEST_CASE("an evaluation stops when asked", "[genetic]") {
  search::EditEvaluator evaluator = evaluator_on(tiny_network(), 50);
  const std::vector<Edits> individuals = {{{0, 0, 1.0f}}, {{2, 0, 1.0f}}};
  std::vector<search::Verdict> verdicts(2);
  for (const int polls : {0, 1, 3, 5}) {  // three slabs each
    int left = polls;
    REQUIRE_FALSE(evaluator.judge(individuals, verdicts, [&] { return left-- == 0; }));
  }
  int left = 6;
  REQUIRE(evaluator.judge(individuals, verdicts, [&] { return left-- == 0; }));
}

// Values at twelve places of the tiny network's first kernel that are to come close to targets.
struct Targets {
  search::OriginalValues original{tiny_network()};
  double width = 0.05;
  int64_t evaluated = 0;
  std::vector<std::vector<size_t>> groups;

  double target(int64_t place) const {
    return static_cast<double>(original.at(0, place)) + 0.3 * static_cast<double>(place % 5 - 2) + 0.1;
  }
  search::GeneticScore score(const Edits& edits) const {
    search::GeneticScore score{0, 0, 0};
    for (int64_t place = 0; place < 12; ++place) {
      const double error = std::abs(static_cast<double>(original.at(edits, 0, place)) - target(place));
      score.correct += error < width;
      score.loss += error;
    }
    return score;
  }
  search::GeneticProblem problem() {
    return {.mutate =
                [this](const Edits& parent, int64_t, RandomStream& stream) {
                  const int64_t place = stream.below(12);
                  const double value =
                      static_cast<double>(original.at(parent, 0, place)) + 0.2 * stream.normal();
                  return search::with_edits(parent, {{0, place, static_cast<float>(value)}}, original);
                },
            .group =
                [](std::span<const Edits> individuals) {
                  std::vector<std::vector<size_t>> groups(3);
                  for (size_t i = 0; i < individuals.size(); ++i) groups[i % 3].push_back(i);
                  return groups;
                },
            .evaluate =
                [this](std::span<const Edits> individuals, const search::GeneticScore&,
                       std::span<search::GeneticScore> scores) {
                  for (size_t k = 0; k < scores.size(); ++k) scores[k] = score(individuals[k]);
                  evaluated += static_cast<int64_t>(scores.size());
                  return true;
                }};
  }
};

search::GeneticSettings long_search() {
  return {.population = 20, .generations = 400, .stall = 400, .perfect = 12};
}

TEST_CASE("a genetic search hits its targets and never loses the best", "[genetic]") {
  Targets targets;
  const search::GeneticSettings settings = long_search();
  search::GeneticScore best;
  const search::GeneticHooks hooks{.stop = {},
                                   .prepare = {},
                                   .after_group = {},
                                   .after_generation = [&](const search::GeneticState& state) {
                                     REQUIRE(state.population.size() == 20);
                                     REQUIRE_FALSE(search::better(best, state.scores[0]));
                                     best = state.scores[0];
                                     for (size_t k = 0; k < 20; ++k) {
                                       search::GeneticScore again = targets.score(state.population[k]);
                                       again.changed = static_cast<int64_t>(state.population[k].size());
                                       REQUIRE((again == state.scores[k]));
                                       if (k > 0)
                                         REQUIRE_FALSE(search::better(state.scores[k], state.scores[k - 1]));
                                     }
                                   }};
  const search::GeneticResult found =
      search::search_genetically(settings, search::seeded_breeding(3, settings), targets.problem(), hooks);
  REQUIRE_FALSE(found.stopped);
  REQUIRE(found.state.scores[0].correct == 12);
  REQUIRE(found.generations < 400);  // stops as soon as nothing is left to gain
  REQUIRE(found.state.series.front() < 12);
  REQUIRE(found.state.evaluations == 20 + 18 * found.generations);
  REQUIRE(found.state.evaluations == targets.evaluated);
  REQUIRE(found.state.series.size() == static_cast<size_t>(found.generations) + 1);
}

TEST_CASE("the search stops without gain, and at its last generation", "[genetic]") {
  Targets targets;
  targets.width = 1e-9;  // nothing can be hit
  search::GeneticSettings settings = long_search();
  settings.stall = 7;
  REQUIRE(search::search_genetically(settings, search::seeded_breeding(3, settings), targets.problem())
              .generations == 7);
  settings.stall = 100;
  settings.generations = 11;
  const search::GeneticResult found =
      search::search_genetically(settings, search::seeded_breeding(3, settings), targets.problem());
  REQUIRE(found.generations == 11);
  REQUIRE(found.state.scores[0].loss < targets.score({}).loss);  // the loss breaks ties all the same
}

TEST_CASE("a search goes on bit for bit from every group", "[genetic]") {
  search::GeneticSettings settings = long_search();
  settings.generations = 25;
  settings.crossover = 0.7;
  const search::BreedingDraws draws = search::seeded_breeding(5, settings);
  Targets targets;
  std::vector<std::map<std::string, at::Tensor>> saved(1);
  search::GeneticState().save(saved[0]);
  const auto keep = [&](const search::GeneticState& state) {
    saved.emplace_back();
    state.save(saved.back());
  };
  const search::GeneticResult whole =
      search::search_genetically(settings, draws, targets.problem(),
                                 {.stop = {}, .prepare = {}, .after_group = keep, .after_generation = keep});
  REQUIRE(whole.generations == 25);
  REQUIRE(saved.size() == 1 + 26 * 4);
  for (const auto& tensors : saved) {
    const search::GeneticResult rest = search::search_genetically(settings, draws, targets.problem(), {},
                                                                  search::GeneticState::load(tensors));
    REQUIRE((rest.state.population == whole.state.population));
    REQUIRE((rest.state.scores == whole.state.scores));
    REQUIRE(rest.state.series == whole.state.series);
    REQUIRE(rest.state.evaluations == whole.state.evaluations);
    REQUIRE(rest.generations == whole.generations);
  }
  for (const int64_t polls : {0, 1, 5, 42}) {
    int64_t left = polls;
    const search::GeneticHooks stopping{
        .stop = [&] { return left-- == 0; }, .prepare = {}, .after_group = {}, .after_generation = {}};
    const search::GeneticResult part =
        search::search_genetically(settings, draws, targets.problem(), stopping);
    REQUIRE(part.stopped);
    REQUIRE(part.state.population.empty() == (polls < 4));
    const search::GeneticResult rest =
        search::search_genetically(settings, draws, targets.problem(), {}, part.state);
    REQUIRE((rest.state.population == whole.state.population));
    REQUIRE(rest.state.evaluations == whole.state.evaluations);
  }
}

TEST_CASE("scores compare by count, then loss, then changed values", "[genetic]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  REQUIRE(search::better({5, 9.0, 9}, {4, 0.0, 0}));
  REQUIRE(search::better({5, 1.0, 9}, {5, 1.5, 0}));
  REQUIRE(search::better({5, 1.0, 2}, {5, 1.0, 3}));
  REQUIRE_FALSE(search::better({5, 1.0, 3}, {5, 1.0, 3}));
  REQUIRE(search::better({5, 1e300, 3}, {5, nan, 0}));
  REQUIRE_FALSE(search::better({5, nan, 3}, {5, 1e300, 3}));
}

// Draws under the test's control.
TEST_CASE("children come from the winners of their tournaments", "[genetic]") {
  Targets targets;
  search::GeneticSettings settings{.population = 4, .elites = 1, .generations = 1, .stall = 9};
  std::vector<Edits> last, parents;
  search::GeneticProblem problem = targets.problem();
  problem.mutate = [&](const Edits& parent, int64_t generation, RandomStream&) {
    if (generation == 1) parents.push_back(parent);
    static int64_t next = 0;
    const auto value = static_cast<float>(100 + next++);
    return search::with_edits(parent, {{0, next % 12, value}}, targets.original);
  };
  const search::BreedingDraws draws = [](int64_t, int64_t individual) {
    search::Breeding breeding{{3, 1, 2}, {2, 3, 2}, 0.9, RandomStream(1), RandomStream(2)};
    if (individual == 1) breeding.first = {3, 3, 0};
    if (individual == 2) breeding.crossover = 0.1;
    return breeding;
  };
  const search::GeneticHooks hooks{.stop = {},
                                   .prepare =
                                       [&](const search::GeneticState& state) {
                                         if (state.generation == 1) last = state.population;
                                         return true;
                                       },
                                   .after_group = {},
                                   .after_generation = {}};
  search::search_genetically(settings, draws, problem, hooks);
  REQUIRE(last[0].empty());  // the original: all mutants are far off
  REQUIRE(parents.size() == 3);
  REQUIRE((parents[0] == last[1]));
  REQUIRE((parents[1] == last[0]));
  RandomStream exchange(1);
  REQUIRE((parents[2] == search::cross(last[1], last[2], exchange)));
}

TEST_CASE("breeding depends on its place alone", "[genetic]") {
  const search::GeneticSettings settings{.population = 5, .tournament = 4};
  std::set<double> seen;
  std::set<int64_t> contestants;
  for (int64_t generation = 0; generation < 20; ++generation) {
    for (int64_t i = 0; i < 5; ++i) {
      search::Breeding one = search::seeded_breeding(4, settings)(generation, i),
                       two = search::seeded_breeding(4, settings)(generation, i);
      REQUIRE((one.first == two.first && one.second == two.second && one.crossover == two.crossover));
      REQUIRE(one.mutation.bits() == two.mutation.bits());
      REQUIRE(one.exchange.bits() != two.mutation.bits());
      REQUIRE(one.first.size() == 4);
      contestants.insert(one.first.begin(), one.first.end());
      REQUIRE(seen.insert(one.crossover).second);
    }
  }
  REQUIRE(contestants == std::set<int64_t>{0, 1, 2, 3, 4});
}

}  // namespace
}  // namespace harness
