#include "approaches/search/differential_evolution.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>

#include "harness/core/error.hpp"
#include "harness/core/random.hpp"

namespace harness::search {
namespace {

class Evolution {
 public:
  Evolution(const EvolutionSettings& settings, const EvolutionDraws& draws,
            const EvaluateCandidates& evaluate, const EvolutionHooks& hooks, EvolutionState state)
      : settings_(settings), draws_(draws), evaluate_(evaluate), hooks_(hooks), state_(std::move(state)) {
    size_ = static_cast<int64_t>(settings_.dimensions.size());
  }

  EvolutionResult run() {
    bool stopped = !settle();
    while (!stopped && state_.generation <= settings_.generations && state_.unchanged <= settings_.patience) {
      stopped = !finish_generation();
      if (stopped) break;
      close_generation();
      stopped = !settle();
      if (!stopped && hooks_.after_generation) hooks_.after_generation(state_);
    }
    return result(stopped);
  }

 private:
  // A trial that is proposed and not yet decided on.
  struct Pending {
    Trial trial;  // drawn once, however often it is proposed
    std::vector<double> values, details;
    double fitness = 0;
    bool known = false;  // its fitness, with its parents as they are
    bool reads(int64_t i) const { return trial.a == i || trial.b == i || trial.c == i; }
  };

  std::span<double> individual(int64_t i) { return std::span(state_.population).subspan(i * size_, size_); }
  std::span<double> details(int64_t i) {
    return std::span(state_.details).subspan(i * settings_.details, settings_.details);
  }
  double rounded(double value) const {
    return settings_.float32 ? static_cast<double>(static_cast<float>(value)) : value;
  }
  bool stop() const { return hooks_.stop.requested(); }
  double floor_of(int64_t i) const {
    return std::isnan(state_.fitness[i]) ? -std::numeric_limits<double>::infinity() : state_.fitness[i];
  }

  // False when stopped on the way.
  bool finish_generation() {
    factor_ = state_.generation == 0
                  ? 0
                  : settings_.factor_low +
                        draws_.factor(state_.generation) * (settings_.factor_high - settings_.factor_low);
    pending_.clear();
    while (state_.next < settings_.population) {
      if (stop()) return false;
      propose_some();
      if (!evaluate_some()) return false;
      decide();
    }
    return true;
  }

  // The next trials, those that are known already among them.
  void propose_some() {
    const int64_t together = settings_.generational ? settings_.population : settings_.together;
    const auto wanted = static_cast<size_t>(std::min(together, settings_.population - state_.next));
    while (pending_.size() < wanted) {
      Pending& fresh = pending_.emplace_back();
      fresh.values.resize(size_);
      fresh.details.resize(settings_.details);
      if (state_.generation == 0) continue;
      fresh.trial.cross.resize(size_);
      draws_.trial(state_.generation, state_.next + std::ssize(pending_) - 1, fresh.trial);
    }
    for (size_t k = 0; k < pending_.size(); ++k) {
      if (!pending_[k].known) propose(state_.next + static_cast<int64_t>(k), pending_[k]);
    }
  }

  bool evaluate_some() {
    std::vector<double> candidates, floors;
    std::vector<size_t> places;
    for (size_t k = 0; k < pending_.size(); ++k) {
      if (pending_[k].known) continue;
      places.push_back(k);
      candidates.insert(candidates.end(), pending_[k].values.begin(), pending_[k].values.end());
      floors.push_back(floor_of(state_.next + static_cast<int64_t>(k)));
    }
    std::vector<double> fitness(places.size());
    try {
      evaluate_(candidates, floors, fitness);
    } catch (const FixStopped&) {
      return false;
    }
    for (size_t k = 0; k < places.size(); ++k) {
      Pending& trial = pending_[places[k]];
      trial.fitness = fitness[k];
      trial.known = true;
      if (hooks_.details) hooks_.details(static_cast<int64_t>(k), trial.details);
    }
    return true;
  }

  // In order, up to the first trial that has to be evaluated again.
  void decide() {
    const bool at_once = state_.generation > 0 && !settings_.generational;
    while (!pending_.empty() && pending_.front().known) {
      const Pending trial = std::move(pending_.front());
      pending_.pop_front();
      const int64_t i = state_.next++;
      ++state_.evaluations;
      if (!(trial.fitness >= floor_of(i))) continue;
      std::ranges::copy(trial.values, individual(i).begin());
      std::ranges::copy(trial.details, details(i).begin());
      state_.fitness[i] = trial.fitness;
      for (Pending& later : pending_) later.known = later.known && !(at_once && later.reads(i));
    }
  }

  void propose(int64_t i, Pending& pending) {
    std::vector<double>& candidate = pending.values;
    if (state_.generation == 0) {
      draws_.initial(i, candidate);
      for (int64_t k = 0; k < size_; ++k) {
        candidate[k] =
            rounded(settings_.dimensions[k].mean + settings_.dimensions[k].deviation * candidate[k]);
      }
      return;
    }
    const Trial& trial = pending.trial;
    const auto x = individual(i), a = individual(trial.a), b = individual(trial.b), c = individual(trial.c);
    for (int64_t k = 0; k < size_; ++k) {
      const Dimension& dimension = settings_.dimensions[k];
      const bool exchange = k == trial.forced || trial.cross[k] < settings_.crossover;
      candidate[k] =
          exchange ? rounded(std::clamp(a[k] + factor_ * rounded(b[k] - c[k]), dimension.low, dimension.high))
                   : x[k];
    }
  }

  void close_generation() {
    const int64_t fittest = best_individual();
    const double best = fittest < 0 ? -std::numeric_limits<double>::infinity() : state_.fitness[fittest];
    state_.series.push_back(best);
    // Sums over thousands of inputs carry noise in their last bits: compared as float32.
    const float rounded = static_cast<float>(best);
    state_.unchanged = state_.generation > 1 && rounded == state_.best_known ? state_.unchanged + 1 : 0;
    state_.best_known = rounded;
    ++state_.generation;
    state_.next = 0;
  }

  // False when stopped on the way.
  bool settle() {
    const int64_t fittest = state_.generation > 0 && hooks_.settle ? best_individual() : -1;
    if (fittest < 0) return true;
    try {
      hooks_.settle(state_, {individual(fittest), state_.fitness[fittest], details(fittest)});
    } catch (const FixStopped&) {
      return false;
    }
    return true;
  }

  int64_t best_individual() const {  // the first of equals; -1 while none has a fitness
    int64_t best = -1;
    for (int64_t i = 0; i < settings_.population; ++i) {
      if (std::isnan(state_.fitness[i])) continue;
      if (best < 0 || state_.fitness[i] > state_.fitness[best]) best = i;
    }
    return best;
  }

  EvolutionResult result(bool stopped) {
    EvolutionResult result;
    result.stopped = stopped;
    result.generations = std::max<int64_t>(0, state_.generation - 1);
    const int64_t best = state_.generation > 0 ? best_individual() : -1;
    if (best >= 0) {
      result.best.assign(individual(best).begin(), individual(best).end());
      result.details.assign(details(best).begin(), details(best).end());
      result.best_fitness = state_.fitness[best];
    }
    result.state = std::move(state_);
    return result;
  }

  const EvolutionSettings& settings_;
  const EvolutionDraws& draws_;
  const EvaluateCandidates& evaluate_;
  const EvolutionHooks& hooks_;
  EvolutionState state_;
  std::deque<Pending> pending_;  // from individual state_.next on
  int64_t size_ = 0;
  double factor_ = 0;
};

at::Tensor doubles(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble);
}

std::vector<double> doubles(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

}  // namespace

EvolutionDraws seeded_draws(uint64_t seed, int64_t population) {
  const auto stream = [seed](const char* purpose, int64_t generation, int64_t individual) {
    return RandomStream(
        derive_seed(seed, purpose + ("/" + std::to_string(generation)) + "/" + std::to_string(individual)));
  };
  EvolutionDraws draws;
  draws.initial = [stream](int64_t individual, std::span<double> normals) {
    RandomStream source = stream("initial", 0, individual);
    for (double& value : normals) value = source.normal();
  };
  draws.factor = [stream](int64_t generation) { return stream("factor", generation, 0).uniform(); };
  draws.trial = [stream, population](int64_t generation, int64_t individual, Trial& trial) {
    RandomStream source = stream("trial", generation, individual);
    int64_t picked[3];
    for (int p = 0; p < 3; ++p) {
      do {
        picked[p] = source.below(population);
      } while (picked[p] == individual || std::find(picked, picked + p, picked[p]) != picked + p);
    }
    trial.a = picked[0];
    trial.b = picked[1];
    trial.c = picked[2];
    trial.forced = source.below(static_cast<int64_t>(trial.cross.size()));
    for (double& value : trial.cross) value = source.uniform();
  };
  return draws;
}

void EvolutionState::save(std::map<std::string, at::Tensor>& tensors) const {
  tensors["evolution.position"] =
      at::tensor(std::vector<int64_t>{generation, next, unchanged, evaluations}, at::kLong);
  tensors["evolution.best_known"] = at::full({1}, best_known, at::kFloat);
  tensors["evolution.population"] = doubles(population);
  tensors["evolution.fitness"] = doubles(fitness);
  tensors["evolution.details"] = doubles(details);
  tensors["evolution.series"] = doubles(series);
}

std::optional<EvolutionState> EvolutionState::load(const std::map<std::string, at::Tensor>& tensors) {
  const auto position = tensors.find("evolution.position");
  if (position == tensors.end()) return std::nullopt;
  const int64_t* numbers = position->second.data_ptr<int64_t>();
  EvolutionState state;
  state.generation = numbers[0];
  state.next = numbers[1];
  state.unchanged = numbers[2];
  state.evaluations = numbers[3];
  state.best_known = tensors.at("evolution.best_known").item<float>();
  state.population = doubles(tensors.at("evolution.population"));
  state.fitness = doubles(tensors.at("evolution.fitness"));
  state.details = doubles(tensors.at("evolution.details"));
  state.series = doubles(tensors.at("evolution.series"));
  return state;
}

EvolutionResult evolve(const EvolutionSettings& settings, const EvolutionDraws& draws,
                       const EvaluateCandidates& evaluate, const EvolutionHooks& hooks,
                       std::optional<EvolutionState> resumed) {
  if (settings.dimensions.empty() || settings.population < 4 || settings.together < 1) {
    interface_misuse("differential evolution needs at least one dimension, four individuals and one trial");
  }
  EvolutionState state;
  if (resumed) {
    state = std::move(*resumed);
  } else {
    state.population.assign(settings.population * settings.dimensions.size(), 0);
    state.fitness.assign(settings.population, std::numeric_limits<double>::quiet_NaN());
    state.details.assign(settings.population * settings.details, 0);
  }
  return Evolution(settings, draws, evaluate, hooks, std::move(state)).run();
}

}  // namespace harness::search
