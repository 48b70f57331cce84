#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "harness/core/stop.hpp"

namespace harness::search {

// One searched dimension: its bounds, and the normal distribution of its first values (not clipped).
struct Dimension {
  double low = 0, high = 0;
  double mean = 0, deviation = 1;
};

// Differential evolution rand/1/bin with one mutation factor a generation (approaches/docs/AR.md, Steps in
// this project, 5); maximises.
struct EvolutionSettings {
  std::vector<Dimension> dimensions = {};
  int64_t population = 100;  // at least 4
  int64_t generations = 100;
  double factor_low = 0.5, factor_high = 1;  // mutation factor F, uniform
  double crossover = 0.7;
  // Stops once the best, as float32, was equal for more generations than that. Generation 1 is compared with
  // nothing, as in the reference.
  int64_t patience = 10;
  bool generational = false;  // replace after each generation instead of at once
  bool float32 = false;       // individuals, and the differences of two, rounded to float32, as a program
                              // that keeps them in float32 has them
  // Trials evaluated in one call (generational: always all). More than one are proposed at a time as if none
  // of them was taken; those whose parents then did change are proposed and evaluated once more. So the
  // populations are the same ones whatever this is.
  int64_t together = 1;
  int64_t details = 0;  // numbers kept with each individual beside its fitness (EvolutionHooks)
};

// What one trial vector needs of chance.
struct Trial {
  int64_t a = 0, b = 0, c = 0;  // distinct, and not the individual
  int64_t forced = 0;           // the dimension that is always exchanged
  std::vector<double> cross;    // one uniform number a dimension
};

// The random numbers by what they are for, so that a search may be continued anywhere and that a test may
// replay another program's numbers. Generations count from 1.
struct EvolutionDraws {
  std::function<void(int64_t individual, std::span<double> normals)> initial;  // standard normal
  std::function<double(int64_t generation)> factor;                            // uniform in [0, 1)
  std::function<void(int64_t generation, int64_t individual, Trial&)> trial;   // `cross` is sized
};
EvolutionDraws seeded_draws(uint64_t seed, int64_t population);

// Fitness of K candidates (K x dimensions, row-major). Where a candidate's fitness lies below its floor any
// number below the floor will do, so that hopeless candidates can be left early. May throw FixStopped: then
// the search ends where it stood before the call.
using EvaluateCandidates = std::function<void(std::span<const double> candidates,
                                              std::span<const double> floors, std::span<double> fitness)>;

// Where a search stands, between two individuals. The first population is complete from generation 1 on.
struct EvolutionState {
  int64_t generation = 0;          // being made; 0 = the first population
  int64_t next = 0;                // individual of it that comes next
  std::vector<double> population;  // row-major
  std::vector<double> fitness;     // NaN: not evaluated yet
  std::vector<double> details;     // row-major
  float best_known = 0;
  int64_t unchanged = 0;
  int64_t evaluations = 0;     // trials decided on; one that had to be evaluated again counts once
  std::vector<double> series;  // best fitness after the first population and after each generation

  void save(std::map<std::string, at::Tensor>& tensors) const;  // under names "evolution.*"
  static std::optional<EvolutionState> load(const std::map<std::string, at::Tensor>& tensors);
};

// The fittest individual: the first of equals.
struct EvolutionBest {
  std::span<const double> values;
  double fitness = 0;
  std::span<const double> details;
};

struct EvolutionHooks {
  Stop stop = {};  // checked before every call of the evaluation
  std::function<void(const EvolutionState&)> after_generation = {};
  // Fills the details of candidate `k` of the evaluation just made.
  std::function<void(int64_t k, std::span<double> details)> details = {};
  // Called with the best of each generation that is over, before after_generation, and again where a search
  // goes on behind one: state.generation says how many are. Not where no individual has a fitness. May throw
  // FixStopped: then the search ends there.
  std::function<void(const EvolutionState&, const EvolutionBest&)> settle = {};
};

struct EvolutionResult {
  EvolutionState state;         // as it was at the end
  std::vector<double> best;     // empty when stopped before the first population was complete
  std::vector<double> details;  // of the best
  double best_fitness = 0;
  int64_t generations = 0;  // finished ones
  bool stopped = false;     // by the hook or by FixStopped
};

EvolutionResult evolve(const EvolutionSettings& settings, const EvolutionDraws& draws,
                       const EvaluateCandidates& evaluate, const EvolutionHooks& hooks = {},
                       std::optional<EvolutionState> resumed = std::nullopt);

}  // namespace harness::search
