#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "approaches/search/edits.hpp"
#include "harness/core/random.hpp"
#include "harness/core/stop.hpp"

namespace harness::search {

// Genetic search on differences to an original (approaches/docs/GM.md, Steps in this project, 4 to 7).
struct GeneticSettings {
  int64_t population = 20;  // at least 2
  int64_t elites = 2;       // survive unchanged; at least 1 and less than the population
  int64_t tournament = 3;
  double crossover = 0.5;     // probability that a child has two parents
  int64_t generations = 100;  // most of them, not counting the first population
  int64_t stall = 20;         // stops after so many generations without a strict rise of the best count
  int64_t perfect = std::numeric_limits<int64_t>::max();  // stops once so many inputs are correct
};

// What an individual is worth: correct inputs, then the lower mean cross-entropy, then the fewer changed
// values.
struct GeneticScore {
  int64_t correct = -1;  // -1: not evaluated yet
  double loss = 0;       // not finite counts as infinite
  int64_t changed = 0;   // set by the search
  bool left = false;     // worse than the floor: the numbers may be bounds, not what it is worth
  bool known() const { return correct >= 0; }
  bool operator==(const GeneticScore&) const = default;
};
bool better(const GeneticScore& a, const GeneticScore& b);  // one that was left is worse than any other
// Whether an individual is worse than `floor`, of which it is known only that it is worth `bound` at most: so
// many correct inputs or fewer, so much loss or more. False for a floor that is not known().
bool falls_below(const GeneticScore& bound, const GeneticScore& floor);

// What making one child needs of chance.
struct Breeding {
  std::vector<int64_t> first, second;  // contestants of the tournaments: ranks in the last population
  double crossover = 0;                // uniform in [0, 1)
  RandomStream exchange, mutation;
};

// The random numbers by what they are for, so that a search may be continued anywhere. Generation 0 is the
// first population.
using BreedingDraws = std::function<Breeding(int64_t generation, int64_t individual)>;
BreedingDraws seeded_breeding(uint64_t seed, const GeneticSettings& settings);

// What is searched.
struct GeneticProblem {
  std::function<Edits(const Edits& parent, int64_t generation, RandomStream&)> mutate;
  // Numbers of the individuals that are evaluated together; a function of the individuals alone, because
  // which ones share a product decides the last bits of their losses.
  std::function<std::vector<std::vector<size_t>>(std::span<const Edits>)> group;
  // `correct` and `loss` of one such group. False: stopped on the way, nothing is known of any of them. The
  // search never looks at an individual that falls_below(`floor`): its evaluation may end as soon as that is
  // certain, and is then `left`.
  std::function<bool(std::span<const Edits> individuals, const GeneticScore& floor,
                     std::span<GeneticScore> scores)>
      evaluate;
};

// Where a search stands, between two groups of a generation.
struct GeneticState {
  int64_t generation = 0;            // being made
  std::vector<Edits> population;     // of the last finished generation, best first; empty before that
  std::vector<GeneticScore> scores;  // theirs; those that were left come last, in no order
  std::vector<GeneticScore> fresh;   // of the individuals being made, as far as known; empty: none yet
  int64_t stalled = 0;
  int64_t evaluations = 0;
  std::vector<double> series;  // most correct inputs after the first population and after each generation

  void save(std::map<std::string, at::Tensor>& tensors) const;  // under names "genetic.*"
  static std::optional<GeneticState> load(const std::map<std::string, at::Tensor>& tensors);
};

// Whether no further generation is made: the last one is there, `stall` is reached, or nothing is left to
// gain.
bool finished(const GeneticState& state, const GeneticSettings& settings);

struct GeneticHooks {
  Stop stop;  // checked before every generation and every group
  // Before a generation's individuals are made, also when it is taken up again, and once more after the last
  // one (finished()). False: stopped.
  std::function<bool(const GeneticState&)> prepare;
  std::function<void(const GeneticState&)> after_group;
  std::function<void(const GeneticState&)> after_generation;
};

struct GeneticResult {
  GeneticState state;       // as it was at the end; the best individual ever is population[0]
  int64_t generations = 0;  // finished ones, without the first population
  bool stopped = false;     // by a hook
};

GeneticResult search_genetically(const GeneticSettings& settings, const BreedingDraws& draws,
                                 const GeneticProblem& problem, const GeneticHooks& hooks = {},
                                 std::optional<GeneticState> resumed = std::nullopt);

}  // namespace harness::search
