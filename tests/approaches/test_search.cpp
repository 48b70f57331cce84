#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "approaches/search/differential_evolution.hpp"
#include "approaches/search/pareto.hpp"
#include "harness/core/random.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

std::vector<int64_t> brute_force_front(const std::vector<double>& x, const std::vector<double>& y) {
  std::vector<int64_t> front;
  for (size_t a = 0; a < x.size(); ++a) {
    bool keep = x[a] > 0 || y[a] > 0;
    for (size_t b = 0; b < x.size(); ++b) {
      const bool dominates = x[b] >= x[a] && y[b] >= y[a] && (x[b] > x[a] || y[b] > y[a]);
      keep &= !dominates && !(b < a && x[b] == x[a] && y[b] == y[a]);
    }
    if (keep) front.push_back(static_cast<int64_t>(a));
  }
  return front;
}

TEST_CASE("pareto front equals brute force") {
  RandomStream stream(3);
  for (int round = 0; round < 200; ++round) {
    const int64_t size = stream.below(60), grid = 1 + stream.below(40);  // a small grid makes many ties
    std::vector<double> x, y;
    for (int64_t k = 0; k < size; ++k) {
      x.push_back(static_cast<double>(stream.below(grid)));
      y.push_back(static_cast<double>(stream.below(grid)));
    }
    REQUIRE(search::pareto_front(x, y) == brute_force_front(x, y));
  }
}

TEST_CASE("pareto front leaves out what says nothing") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  REQUIRE(search::pareto_front(std::vector<double>{0, 0}, std::vector<double>{0, 0}).empty());
  REQUIRE(search::pareto_front(std::vector<double>{nan, 1, 2}, std::vector<double>{9, 1, nan}) ==
          std::vector<int64_t>{1});
}

search::EvolutionSettings sphere_settings(bool generational) {
  search::EvolutionSettings settings;
  for (int k = 0; k < 4; ++k) settings.dimensions.push_back({-5, 5, 1, 2});
  settings.population = 40;
  settings.generations = 150;
  settings.patience = 150;
  settings.generational = generational;
  return settings;
}

// Best at (1, 2, 3, 4), where it is 0.
double sphere(std::span<const double> x) {
  double value = 0;
  for (size_t k = 0; k < x.size(); ++k) value -= std::pow(x[k] - static_cast<double>(k + 1), 2);
  return value;
}

void evaluate_sphere(std::span<const double> candidates, std::span<const double>, std::span<double> fitness) {
  const size_t size = candidates.size() / fitness.size();
  for (size_t k = 0; k < fitness.size(); ++k) fitness[k] = sphere(candidates.subspan(k * size, size));
}

TEST_CASE("differential evolution finds the optimum of a sphere") {
  for (const bool generational : {false, true}) {
    const search::EvolutionSettings settings = sphere_settings(generational);
    const search::EvolutionResult result =
        search::evolve(settings, search::seeded_draws(1, settings.population), evaluate_sphere);
    REQUIRE(result.generations == 150);
    REQUIRE(result.state.evaluations == 40 * 151);
    REQUIRE(result.state.series.size() == 151);
    for (size_t k = 0; k < 4; ++k) REQUIRE(result.best[k] == Approx(static_cast<double>(k + 1)).margin(1e-3));
    REQUIRE(result.best_fitness == sphere(result.best));
    for (size_t g = 1; g < result.state.series.size(); ++g) {
      REQUIRE(result.state.series[g] >= result.state.series[g - 1]);
    }
  }
}

TEST_CASE("trial vectors keep to the bounds, first vectors need not") {
  search::EvolutionSettings settings = sphere_settings(false);
  settings.generations = 20;
  for (search::Dimension& dimension : settings.dimensions) dimension = {-0.5, 0.25, 0, 3};
  int64_t seen = 0, outside_at_first = 0;
  search::evolve(settings, search::seeded_draws(2, settings.population),
                 [&](auto candidates, auto floors, auto fitness) {
                   const bool first = seen++ < settings.population;
                   int64_t outside = 0;
                   for (const double value : candidates) outside += value < -0.5 || value > 0.25;
                   if (first) outside_at_first += outside;
                   // A trial keeps values of its individual that were outside from the start, so only new
                   // values can be checked here: at least the forced dimension lies inside.
                   if (!first) REQUIRE(outside < static_cast<int64_t>(candidates.size()));
                   evaluate_sphere(candidates, floors, fitness);
                 });
  REQUIRE(outside_at_first > 0);
}

// Draws under the test's control: two dimensions, four individuals at (i, 10 i).
search::EvolutionDraws scripted_draws(double cross) {
  search::EvolutionDraws draws;
  draws.initial = [](int64_t i, std::span<double> normals) {
    normals[0] = static_cast<double>(i);
    normals[1] = static_cast<double>(10 * i);
  };
  draws.factor = [](int64_t) { return 0.5; };
  draws.trial = [cross](int64_t, int64_t i, search::Trial& trial) {
    trial.a = (i + 1) % 4;
    trial.b = (i + 2) % 4;
    trial.c = (i + 3) % 4;
    trial.forced = 0;
    for (double& value : trial.cross) value = cross;
  };
  return draws;
}

TEST_CASE("one generation, computed by hand") {
  search::EvolutionSettings settings;
  settings.dimensions = {{-100, 100, 0, 1}, {-100, 100, 0, 1}};
  settings.population = 4;
  settings.generations = 1;
  std::vector<std::vector<double>> tried;
  const auto sum = [&](std::span<const double> candidates, std::span<const double>,
                       std::span<double> fitness) {
    for (size_t k = 0; k < fitness.size(); ++k) {
      tried.push_back({candidates[2 * k], candidates[2 * k + 1]});
      fitness[k] = candidates[2 * k] + candidates[2 * k + 1];
    }
  };
  // F = 0.5 + 0.5 * 0.5 = 0.75.
  SECTION("asynchronous: later individuals see earlier replacements") {
    search::evolve(settings, scripted_draws(0.0), sum);
    REQUIRE(tried[4] ==
            std::vector<double>{1 + 0.75 * (2 - 3), 10 + 0.75 * (20 - 30)});  // 0.25, 2.5: replaces 0
    REQUIRE(tried[5] == std::vector<double>{2 + 0.75 * (3 - 0.25), 20 + 0.75 * (30 - 2.5)});
    REQUIRE(tried[6][0] == 3 + 0.75 * (0.25 - tried[5][0]));
  }
  SECTION("generational: all of them see the old population") {
    settings.generational = true;
    search::evolve(settings, scripted_draws(0.0), sum);
    REQUIRE(tried[5] == std::vector<double>{2 + 0.75 * (3 - 0), 20 + 0.75 * (30 - 0)});
  }
  SECTION("without crossover only the forced dimension is exchanged") {
    search::evolve(settings, scripted_draws(0.99), sum);
    REQUIRE(tried[4] == std::vector<double>{0.25, 0});
    REQUIRE(tried[5][1] == 10);
  }
}

TEST_CASE("float32: individuals and differences are rounded, the mutation factor is not") {
  const double mean = -3.0, deviation = 1.7, factor = 0.7;
  search::EvolutionSettings settings;
  settings.dimensions = {{-100, 100, mean, deviation}, {-100, 100, 0, 1}};
  settings.population = 4;
  settings.generations = 1;
  settings.factor_low = settings.factor_high = factor;
  settings.float32 = true;
  std::vector<double> tried;
  search::evolve(settings, scripted_draws(0.0), [&](auto candidates, auto, std::span<double> fitness) {
    tried.insert(tried.end(), candidates.begin(), candidates.end());
    fitness[0] = 1;
  });
  const auto rounded = [](double value) { return static_cast<double>(static_cast<float>(value)); };
  const auto start = [&](int i) { return rounded(mean + deviation * i); };
  for (int i = 0; i < 4; ++i) REQUIRE(tried[2 * i] == start(i));
  const double difference = start(2) - start(3);
  REQUIRE(tried[8] == rounded(start(1) + factor * rounded(difference)));
  REQUIRE(tried[8] != rounded(start(1) + factor * difference));  // numbers for which each rounding tells
  REQUIRE(tried[8] != start(1) + factor * rounded(difference));
  REQUIRE(tried[8] != rounded(start(1) + rounded(factor) * rounded(difference)));
}

TEST_CASE("an equally fit trial replaces its individual, a less fit one does not") {
  search::EvolutionSettings settings;
  settings.dimensions = {{-100, 100, 0, 1}, {-100, 100, 0, 1}};
  settings.population = 4;
  settings.generations = 1;
  for (const double later : {1.0, 0.5}) {
    int64_t calls = 0;
    const auto flat = [&](auto, auto, std::span<double> fitness) { fitness[0] = calls++ < 4 ? 1.0 : later; };
    const search::EvolutionResult result = search::evolve(settings, scripted_draws(0.0), flat);
    REQUIRE((result.state.population[0] == 0.25) == (later == 1.0));
    REQUIRE(result.best_fitness == 1.0);
  }
}

TEST_CASE("the search stops when patience is exceeded") {
  search::EvolutionSettings settings = sphere_settings(false);
  settings.patience = 7;
  const auto constant = [](auto, auto, std::span<double> fitness) { fitness[0] = 4876.5; };
  // Generation 1 is compared with nothing, so that the 2nd to the 9th are equal to the one before.
  REQUIRE(search::evolve(settings, search::seeded_draws(1, 40), constant).generations == 9);
  // Gains below float32's resolution count as none.
  double tiny = 4876.5;
  const auto creeping = [&](auto, auto, std::span<double> fitness) { fitness[0] = tiny += 1e-9; };
  REQUIRE(search::evolve(settings, search::seeded_draws(1, 40), creeping).generations == 9);
}

TEST_CASE("a stopped search goes on bit for bit") {
  for (const bool generational : {false, true}) {
    const search::EvolutionSettings settings = sphere_settings(generational);
    const search::EvolutionDraws draws = search::seeded_draws(9, settings.population);
    const search::EvolutionResult whole = search::evolve(settings, draws, evaluate_sphere);
    for (const int64_t polls : {0, 17, 40, 63, 130}) {
      int64_t left = polls;
      const search::EvolutionResult part =
          search::evolve(settings, draws, evaluate_sphere, {[&] { return left-- == 0; }, nullptr});
      REQUIRE(part.stopped);
      // Individuals of an unfinished first population are no result, however many there are.
      const bool complete = generational ? polls > 0 : polls >= settings.population;
      REQUIRE(part.best.empty() == !complete);
      REQUIRE((part.state.generation > 0) == complete);
      std::map<std::string, at::Tensor> saved;
      part.state.save(saved);
      const search::EvolutionResult rest =
          search::evolve(settings, draws, evaluate_sphere, {}, search::EvolutionState::load(saved));
      REQUIRE(rest.best == whole.best);
      REQUIRE(rest.state.population == whole.state.population);
      REQUIRE(rest.state.series == whole.state.series);
      REQUIRE(rest.state.evaluations == whole.state.evaluations);
    }
  }
}

// Differential evolution one trial after the other, as plainly as it can be said: every population there is,
// the floor that each trial had to reach, and the fitness of each.
struct Plain {
  std::vector<std::vector<double>> populations;
  std::vector<double> floors;
};

Plain plain_evolution(const search::EvolutionSettings& settings, const search::EvolutionDraws& draws) {
  const auto size = settings.dimensions.size();
  std::vector<double> x(settings.population * size), fitness(settings.population);
  Plain plain;
  for (int64_t i = 0; i < settings.population; ++i) {
    const auto own = std::span(x).subspan(i * size, size);
    draws.initial(i, own);
    for (size_t k = 0; k < size; ++k)
      own[k] = settings.dimensions[k].mean + settings.dimensions[k].deviation * own[k];
    fitness[i] = sphere(own);
  }
  plain.populations.push_back(x);
  for (int64_t generation = 1; generation <= settings.generations; ++generation) {
    const double factor =
        settings.factor_low + draws.factor(generation) * (settings.factor_high - settings.factor_low);
    for (int64_t i = 0; i < settings.population; ++i) {
      search::Trial trial;
      trial.cross.resize(size);
      draws.trial(generation, i, trial);
      std::vector<double> y(size);
      for (size_t k = 0; k < size; ++k) {
        const search::Dimension& dimension = settings.dimensions[k];
        y[k] =
            static_cast<int64_t>(k) == trial.forced || trial.cross[k] < settings.crossover
                ? std::clamp(x[trial.a * size + k] + factor * (x[trial.b * size + k] - x[trial.c * size + k]),
                             dimension.low, dimension.high)
                : x[i * size + k];
      }
      plain.floors.push_back(fitness[i]);
      if (const double found = sphere(y); found >= fitness[i]) {
        std::copy(y.begin(), y.end(), x.begin() + static_cast<int64_t>(i * size));
        fitness[i] = found;
      }
    }
    plain.populations.push_back(x);
  }
  return plain;
}

// As evaluate_sphere, and what each call was asked for. Below its floor a candidate gets some number below
// it.
struct Watched {
  std::vector<size_t> calls;
  std::set<double> floors;

  void operator()(std::span<const double> candidates, std::span<const double> floor,
                  std::span<double> fitness) {
    calls.push_back(fitness.size());
    evaluate_sphere(candidates, floor, fitness);
    for (size_t k = 0; k < fitness.size(); ++k) {
      floors.insert(floor[k]);
      if (fitness[k] < floor[k]) fitness[k] = floor[k] - 1e3;
    }
  }
};

TEST_CASE("trials evaluated together give the populations of one after the other") {
  int64_t repeated = 0, rounds = 0;
  RandomStream chance(31);
  for (uint64_t seed = 0; seed < 60; ++seed) {
    search::EvolutionSettings settings = sphere_settings(false);
    settings.population = 4 + chance.below(20);
    settings.generations = 12;
    settings.crossover = chance.uniform();
    settings.dimensions.resize(static_cast<size_t>(1 + chance.below(4)));
    settings.together = 2 + chance.below(20);
    INFO("seed " << seed << ", population " << settings.population << ", together " << settings.together);
    const search::EvolutionDraws draws = search::seeded_draws(seed, settings.population);
    const Plain plain = plain_evolution(settings, draws);

    std::vector<std::vector<double>> populations;
    Watched watched;
    const search::EvolutionHooks hooks{
        .after_generation = [&](const auto& state) { populations.push_back(state.population); }};
    const search::EvolutionResult found = search::evolve(settings, draws, std::ref(watched), hooks);
    REQUIRE(populations == plain.populations);
    REQUIRE(found.state.evaluations == settings.population * (settings.generations + 1));
    // In the first population nothing is known to be too low; then every floor is an individual's fitness.
    std::set<double> floors(plain.floors.begin(), plain.floors.end());
    floors.insert(-std::numeric_limits<double>::infinity());
    REQUIRE(watched.floors == floors);
    const size_t first = static_cast<size_t>((settings.population - 1) / settings.together + 1);
    size_t of_first = 0, of_all = 0;
    for (size_t k = 0; k < watched.calls.size(); ++k) {
      REQUIRE(watched.calls[k] <= static_cast<size_t>(settings.together));
      of_all += watched.calls[k];
      if (k < first) of_first += watched.calls[k];
    }
    REQUIRE(of_first == static_cast<size_t>(settings.population));
    repeated += static_cast<int64_t>(of_all) - found.state.evaluations;
    rounds += static_cast<int64_t>(watched.calls.size());

    // A search that is stopped anywhere and goes on with other numbers together is the same one.
    int64_t left = chance.below(static_cast<int64_t>(watched.calls.size()));
    const search::EvolutionResult part =
        search::evolve(settings, draws, evaluate_sphere, {.stop = [&] { return left-- == 0; }});
    REQUIRE(part.stopped);
    std::map<std::string, at::Tensor> saved;
    part.state.save(saved);
    settings.together = 1 + chance.below(20);
    const search::EvolutionResult rest =
        search::evolve(settings, draws, evaluate_sphere, {}, search::EvolutionState::load(saved));
    REQUIRE(rest.state.population == plain.populations.back());
    REQUIRE(rest.state.evaluations == found.state.evaluations);
    REQUIRE(rest.state.series == found.state.series);
  }
  REQUIRE(repeated > 0);           // there were trials whose parents changed
  REQUIRE(rounds < 60 * 13 * 14);  // fewer calls than trials: 14 individuals in the mean
}

TEST_CASE("details stay with the individual that they were made for") {
  search::EvolutionSettings settings = sphere_settings(false);
  settings.details = 2;
  settings.generations = 30;
  settings.together = 7;
  const search::EvolutionDraws draws = search::seeded_draws(5, settings.population);
  std::vector<double> last;
  const auto evaluate = [&](auto candidates, auto floors, auto fitness) {
    evaluate_sphere(candidates, floors, fitness);
    last.assign(candidates.begin(), candidates.end());
  };
  int64_t settled = 0;
  const auto check = [&](std::span<const double> values, std::span<const double> details) {
    REQUIRE(details.size() == 2);
    REQUIRE((details[0] == values[0] && details[1] == values[3]));
  };
  search::EvolutionHooks hooks{
      .details =
          [&](int64_t k, std::span<double> details) {
            details[0] = last[static_cast<size_t>(4 * k)];
            details[1] = last[static_cast<size_t>(4 * k + 3)];
          },
      .settle =
          [&](const search::EvolutionState& state, const search::EvolutionBest& best) {
            check(best.values, best.details);
            REQUIRE(best.fitness == sphere(best.values));
            REQUIRE(state.generation == ++settled);
          }};
  const search::EvolutionResult whole = search::evolve(settings, draws, evaluate, hooks);
  REQUIRE(settled == 31);
  check(whole.best, whole.details);

  // Stopped while a generation is settled: that is done once more, and the rest is the same.
  settled = 0;
  const auto settle = hooks.settle;
  hooks.settle = [&](const auto& state, const auto& best) {
    if (state.generation == 9) throw FixStopped{};
    settle(state, best);
  };
  const search::EvolutionResult part = search::evolve(settings, draws, evaluate, hooks);
  REQUIRE((part.stopped && settled == 8 && part.state.generation == 9 && part.state.next == 0));
  std::map<std::string, at::Tensor> saved;
  part.state.save(saved);
  hooks.settle = settle;
  const search::EvolutionResult rest =
      search::evolve(settings, draws, evaluate, hooks, search::EvolutionState::load(saved));
  REQUIRE(settled == 31);
  REQUIRE((rest.best == whole.best && rest.details == whole.details));
}

TEST_CASE("seeded draws are distinct individuals and depend on their place alone") {
  const search::EvolutionDraws draws = search::seeded_draws(4, 5);
  std::set<std::vector<double>> seen;
  for (int64_t generation = 1; generation < 40; ++generation) {
    for (int64_t i = 0; i < 5; ++i) {
      search::Trial trial, again;
      trial.cross.resize(3);
      again.cross.resize(3);
      draws.trial(generation, i, trial);
      REQUIRE(std::set<int64_t>{i, trial.a, trial.b, trial.c}.size() == 4);
      REQUIRE((trial.forced >= 0 && trial.forced < 3));
      REQUIRE(seen.insert(trial.cross).second);
      search::seeded_draws(4, 5).trial(generation, i, again);
      REQUIRE((again.cross == trial.cross && again.a == trial.a && again.forced == trial.forced));
    }
  }
}

}  // namespace
}  // namespace harness
