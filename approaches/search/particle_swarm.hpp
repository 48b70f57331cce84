#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "harness/core/stop.hpp"

namespace harness::search {

// One searched dimension: the normal distribution of its start, and the bounds of its speed (constriction).
struct SwarmDimension {
  double mean = 0, deviation = 0;
  double slowest = 0, fastest = std::numeric_limits<double>::infinity();
};

// The swarm of Arachne 2019 (approaches/docs/NR.md, Formulas). Starts at rest; a particle moves with its old
// speed x += v, and then v = chi (v + r1 (own best - x) + r2 (common best - x)) with r1 and r2 one number
// each a particle, uniform in [0, phi), and chi = 2 / (phi - 2 + sqrt(phi^2 - 4 phi)); the size of v is then
// forced into the dimension's bounds, 0 counting as negative.
struct Constriction {
  double phi = 4.1;  // at least 4
  // Stops after iteration patience + 1 (the first is 0) or a later one whose best is not above that of
  // `patience` iterations before.
  int64_t patience = 10;
};

// Global best with inertia (approaches/docs/CARE.md, Formulas): v = inertia v + own u1 (own best - x) +
// common u2 (common best - x) with a u1 and a u2 for every component, uniform in [0, 1); x += v, and where
// that leaves the box, wrapped(). The speed starts uniform in [0, start_speed).
struct Inertia {
  double inertia = 0.8, own = 0.41, common = 0.41;
  double start_speed = 1;
  double low = 0, high = 1;  // the box, the same for all dimensions
  // Stops once, `patience` iterations in a row, the best changed by less than tolerance * (1 + |best|).
  double tolerance = 1e-3;
  int64_t patience = 10;  // at least 1
};

// Maximises. All particles of an iteration move towards the same common best and are evaluated together.
struct SwarmSettings {
  std::vector<SwarmDimension> dimensions = {};
  int64_t particles = 20;
  // Times that all particles are evaluated; with constriction, those after the evaluation of the start.
  int64_t iterations = 100;
  std::variant<Constriction, Inertia> rule = Inertia{};
};

// Back into [low, high] from the other side, as often as it takes.
double wrapped(double value, double low, double high);

// The random numbers by what they are for, so that a search may be continued anywhere and that a test may
// replay another program's numbers.
struct SwarmDraws {
  std::function<void(int64_t particle, std::span<double> normals)> start;   // one a dimension
  std::function<void(int64_t particle, std::span<double> uniforms)> speed;  // one a dimension, in [0, 1)
  // For the particle's move number `move`, counted from 1; in [0, 1). Constriction: r1 and r2 over phi.
  // Inertia: u1 of all dimensions, then u2 of all.
  std::function<void(int64_t move, int64_t particle, std::span<double> uniforms)> pull;
};
SwarmDraws seeded_swarm_draws(uint64_t seed);

// Fitness of K candidates (K x dimensions, row-major); NaN is worse than everything. May throw FixStopped:
// then the search ends where it stood before the call.
using EvaluateSwarm = std::function<void(std::span<const double> candidates, std::span<double> fitness)>;

// Where a search stands, between two evaluations of all particles.
struct SwarmState {
  int64_t evaluated = 0;                            // times that all particles were
  int64_t leader = 0;                               // whose best is the common best
  std::vector<double> position, speed;              // row-major
  std::vector<double> best_position, best_fitness;  // of each particle
  std::vector<double> series;                       // fitness of the common best after each evaluation
  int64_t evaluations = 0;

  void save(std::map<std::string, at::Tensor>& tensors) const;  // under names "swarm.*"
  static std::optional<SwarmState> load(const std::map<std::string, at::Tensor>& tensors);
};

struct SwarmHooks {
  Stop stop;  // checked before every evaluation
  std::function<void(const SwarmState&)> after_iteration;
};

struct SwarmResult {
  SwarmState state;          // as it was at the end
  std::vector<double> best;  // empty when stopped before anything was evaluated
  double best_fitness = 0;
  int64_t iterations = 0;  // finished ones, as the settings count them
  bool stopped = false;    // by the hook or by FixStopped
};

SwarmResult swarm(const SwarmSettings& settings, const SwarmDraws& draws, const EvaluateSwarm& evaluate,
                  const SwarmHooks& hooks = {}, std::optional<SwarmState> resumed = std::nullopt);

}  // namespace harness::search
