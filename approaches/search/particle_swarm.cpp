#include "approaches/search/particle_swarm.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "harness/core/error.hpp"
#include "harness/core/random.hpp"

namespace harness::search {
namespace {

constexpr double kWorst = -std::numeric_limits<double>::infinity();

class Swarm {
 public:
  Swarm(const SwarmSettings& settings, const SwarmDraws& draws, const EvaluateSwarm& evaluate,
        const SwarmHooks& hooks, SwarmState state)
      : settings_(settings),
        draws_(draws),
        evaluate_(evaluate),
        hooks_(hooks),
        state_(std::move(state)),
        constriction_(std::get_if<Constriction>(&settings.rule)),
        inertia_(std::get_if<Inertia>(&settings.rule)),
        size_(settings.dimensions.size()) {
    numbers_.resize(constriction_ != nullptr ? 2 : 2 * size_);
  }

  SwarmResult run() {
    const int64_t start = constriction_ != nullptr ? 1 : 0;  // an evaluation that is no iteration
    bool stopped = false;
    while (state_.evaluated < settings_.iterations + start && !settled()) {
      stopped = hooks_.stop.requested();
      if (stopped) break;
      const std::vector<double> position = state_.position, speed = state_.speed;
      for (int64_t i = 0; i < settings_.particles; ++i) {
        if (state_.evaluated == 0)
          place(i);
        else if (constriction_ != nullptr)
          move_constricted(i);
        else
          move_with_inertia(i);
      }
      try {
        evaluate();
      } catch (const FixStopped&) {
        state_.position = position;
        state_.speed = speed;
        stopped = true;
        break;
      }
      if (hooks_.after_iteration) hooks_.after_iteration(state_);
    }
    SwarmResult result;
    result.iterations = std::max<int64_t>(0, state_.evaluated - start);
    result.stopped = stopped;
    if (state_.evaluated > 0) {
      const int64_t fittest = first_of_best();
      const std::span<double> best = of(state_.best_position, fittest);
      result.best.assign(best.begin(), best.end());
      result.best_fitness = state_.best_fitness[fittest];
    }
    result.state = std::move(state_);
    return result;
  }

 private:
  std::span<double> of(std::vector<double>& rows, int64_t i) const {
    return std::span(rows).subspan(static_cast<size_t>(i) * size_, size_);
  }

  void place(int64_t i) {
    const std::span<double> x = of(state_.position, i), v = of(state_.speed, i);
    draws_.start(i, x);
    for (size_t k = 0; k < size_; ++k)
      x[k] = settings_.dimensions[k].mean + settings_.dimensions[k].deviation * x[k];
    if (inertia_ == nullptr) return;
    draws_.speed(i, v);
    for (double& component : v) component *= inertia_->start_speed;
  }

  void move_constricted(int64_t i) {
    draws_.pull(state_.evaluated, i, numbers_);
    const double phi = constriction_->phi, chi = 2 / (phi - 2 + std::sqrt(phi * phi - 4 * phi));
    const double r1 = phi * numbers_[0], r2 = phi * numbers_[1];
    const std::span<double> x = of(state_.position, i), v = of(state_.speed, i);
    const std::span<double> own = of(state_.best_position, i),
                            common = of(state_.best_position, state_.leader);
    for (size_t k = 0; k < size_; ++k) {
      const SwarmDimension& dimension = settings_.dimensions[k];
      x[k] += v[k];
      v[k] = chi * (v[k] + r1 * (own[k] - x[k]) + r2 * (common[k] - x[k]));
      const double sign = v[k] > 0 ? 1 : -1, size = std::abs(v[k]);
      if (size < dimension.slowest) v[k] = sign * dimension.slowest;
      if (size > dimension.fastest) v[k] = sign * dimension.fastest;
    }
  }

  void move_with_inertia(int64_t i) {
    draws_.pull(state_.evaluated, i, numbers_);
    const std::span<double> x = of(state_.position, i), v = of(state_.speed, i);
    const std::span<double> own = of(state_.best_position, i),
                            common = of(state_.best_position, state_.leader);
    for (size_t k = 0; k < size_; ++k) {
      v[k] = inertia_->inertia * v[k] + inertia_->own * numbers_[k] * (own[k] - x[k]) +
             inertia_->common * numbers_[size_ + k] * (common[k] - x[k]);
      x[k] = wrapped(x[k] + v[k], inertia_->low, inertia_->high);
    }
  }

  void evaluate() {
    std::vector<double> fitness(static_cast<size_t>(settings_.particles));
    evaluate_(state_.position, fitness);
    const bool first = state_.evaluated == 0;
    for (int64_t i = 0; i < settings_.particles; ++i) {
      if (!first && !(fitness[i] > state_.best_fitness[i])) continue;
      state_.best_fitness[i] = std::isnan(fitness[i]) ? kWorst : fitness[i];
      std::ranges::copy(of(state_.position, i), of(state_.best_position, i).begin());
    }
    const int64_t fittest = first_of_best();
    // Of equally good bests Arachne's swarm follows the first particle's, the other one the oldest.
    if (first || constriction_ != nullptr || state_.best_fitness[fittest] > state_.series.back())
      state_.leader = fittest;
    state_.series.push_back(state_.best_fitness[state_.leader]);
    state_.evaluations += settings_.particles;
    ++state_.evaluated;
  }

  int64_t first_of_best() const {
    return std::ranges::max_element(state_.best_fitness) - state_.best_fitness.begin();
  }

  bool settled() const {
    const std::vector<double>& best = state_.series;
    const auto last = static_cast<int64_t>(best.size()) - 1;
    if (constriction_ != nullptr) {
      const int64_t patience = constriction_->patience;
      return last >= patience + 2 && !(best[last] > best[last - patience]);
    }
    if (last < inertia_->patience) return false;
    for (int64_t k = last - inertia_->patience + 1; k <= last; ++k) {
      if (!(std::abs(best[k] - best[k - 1]) < inertia_->tolerance * (1 + std::abs(best[k - 1]))))
        return false;
    }
    return true;
  }

  const SwarmSettings& settings_;
  const SwarmDraws& draws_;
  const EvaluateSwarm& evaluate_;
  const SwarmHooks& hooks_;
  SwarmState state_;
  const Constriction* const constriction_;  // one of the two
  const Inertia* const inertia_;
  const size_t size_;
  std::vector<double> numbers_;
};

std::vector<double> doubles(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

}  // namespace

double wrapped(double value, double low, double high) {
  if (!(high > low)) return low;
  if (value < low) return high - std::fmod(low - value, high - low);
  if (value > high) return low + std::fmod(value - high, high - low);
  return value;
}

SwarmDraws seeded_swarm_draws(uint64_t seed) {
  const auto stream = [seed](const char* purpose, int64_t move, int64_t particle) {
    return RandomStream(
        derive_seed(seed, purpose + ("/" + std::to_string(move)) + "/" + std::to_string(particle)));
  };
  const auto fill = [](RandomStream source, std::span<double> uniforms) {
    for (double& value : uniforms) value = source.uniform();
  };
  SwarmDraws draws;
  draws.start = [stream](int64_t particle, std::span<double> normals) {
    RandomStream source = stream("start", 0, particle);
    for (double& value : normals) value = source.normal();
  };
  draws.speed = [stream, fill](int64_t particle, std::span<double> uniforms) {
    fill(stream("speed", 0, particle), uniforms);
  };
  draws.pull = [stream, fill](int64_t move, int64_t particle, std::span<double> uniforms) {
    fill(stream("pull", move, particle), uniforms);
  };
  return draws;
}

void SwarmState::save(std::map<std::string, at::Tensor>& tensors) const {
  const auto keep = [&](const char* name, const std::vector<double>& values) {
    tensors[std::string("swarm.") + name] = at::tensor(values, at::kDouble);
  };
  tensors["swarm.counts"] = at::tensor(std::vector<int64_t>{evaluated, leader, evaluations}, at::kLong);
  keep("position", position);
  keep("speed", speed);
  keep("best_position", best_position);
  keep("best_fitness", best_fitness);
  keep("series", series);
}

std::optional<SwarmState> SwarmState::load(const std::map<std::string, at::Tensor>& tensors) {
  const auto counts = tensors.find("swarm.counts");
  if (counts == tensors.end()) return std::nullopt;
  const auto number = counts->second.accessor<int64_t, 1>();
  const auto kept = [&](const char* name) { return doubles(tensors.at(std::string("swarm.") + name)); };
  return SwarmState{.evaluated = number[0],
                    .leader = number[1],
                    .position = kept("position"),
                    .speed = kept("speed"),
                    .best_position = kept("best_position"),
                    .best_fitness = kept("best_fitness"),
                    .series = kept("series"),
                    .evaluations = number[2]};
}

SwarmResult swarm(const SwarmSettings& settings, const SwarmDraws& draws, const EvaluateSwarm& evaluate,
                  const SwarmHooks& hooks, std::optional<SwarmState> resumed) {
  if (settings.dimensions.empty() || settings.particles < 1) {
    interface_misuse("a particle swarm needs at least one dimension and one particle");
  }
  const auto* constriction = std::get_if<Constriction>(&settings.rule);
  if (constriction != nullptr && !(constriction->phi >= 4)) interface_misuse("constriction with phi below 4");
  SwarmState state;
  if (resumed) {
    state = std::move(*resumed);
  } else {
    const auto particles = static_cast<size_t>(settings.particles);
    state.position.assign(particles * settings.dimensions.size(), 0);
    state.speed = state.best_position = state.position;
    state.best_fitness.assign(particles, kWorst);
  }
  return Swarm(settings, draws, evaluate, hooks, std::move(state)).run();
}

}  // namespace harness::search
