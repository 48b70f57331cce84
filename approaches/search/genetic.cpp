#include "approaches/search/genetic.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "harness/core/error.hpp"

namespace harness::search {
namespace {

class GeneticSearch {
 public:
  GeneticSearch(const GeneticSettings& settings, const BreedingDraws& draws, const GeneticProblem& problem,
                const GeneticHooks& hooks, GeneticState state)
      : settings_(settings), draws_(draws), problem_(problem), hooks_(hooks), state_(std::move(state)) {}

  GeneticResult run() {
    GeneticResult result;
    while (true) {
      const bool done = finished(state_, settings_);
      result.stopped = (!done && stop()) || (hooks_.prepare && !hooks_.prepare(state_));
      if (result.stopped || done) break;
      const std::vector<Edits> brood = breed();
      result.stopped = !evaluate(brood);
      if (result.stopped) break;
      close_generation(brood);
    }
    result.generations = std::max<int64_t>(0, state_.generation - 1);
    result.state = std::move(state_);
    return result;
  }

 private:
  bool stop() const { return hooks_.stop.requested(); }

  // The individuals that the generation adds: all of the first, else those beside the elites.
  std::vector<Edits> breed() const {
    std::vector<Edits> brood;
    const bool first = state_.population.empty();
    const int64_t count = first ? settings_.population : settings_.population - settings_.elites;
    for (int64_t i = 0; i < count; ++i) {
      Breeding chance = draws_(state_.generation, i);
      if (first) {
        brood.push_back(i == 0 ? Edits() : problem_.mutate({}, 0, chance.mutation));
      } else {
        brood.push_back(problem_.mutate(unmutated(chance), state_.generation, chance.mutation));
      }
    }
    return brood;
  }

  Edits unmutated(Breeding& chance) const {
    const Edits& first = winner(chance.first);
    return chance.crossover < settings_.crossover ? cross(first, winner(chance.second), chance.exchange)
                                                  : first;
  }

  const Edits& winner(const std::vector<int64_t>& contestants) const {  // they are numbered best first
    return state_.population.at(*std::min_element(contestants.begin(), contestants.end()));
  }

  // How many of the population in the making, from its best on, anything will be read of: those that survive
  // and those that win a tournament of the next generation, whose contestants are drawn by their ranks and so
  // known by now. The last generation leaves its best alone.
  int64_t read_later() const {
    if (state_.generation >= settings_.generations) return 1;
    int64_t last = settings_.elites - 1;
    const auto rank_of = [](const std::vector<int64_t>& contestants) {
      return *std::min_element(contestants.begin(), contestants.end());
    };
    for (int64_t i = 0; i < settings_.population - settings_.elites; ++i) {
      const Breeding chance = draws_(state_.generation + 1, i);
      last = std::max(last, rank_of(chance.first));
      if (chance.crossover < settings_.crossover) last = std::max(last, rank_of(chance.second));
    }
    return last + 1;
  }

  // The last score that still has a place among the first `count`, as far as scores are known; unknown while
  // there are fewer. What falls below it has no such place, whatever is still to come.
  GeneticScore floor_of(int64_t count) const {
    std::vector<GeneticScore> whole;
    const auto add = [&](const GeneticScore& score) {
      if (score.known() && !score.left) whole.push_back(score);
    };
    const size_t elites = state_.population.empty() ? 0 : static_cast<size_t>(settings_.elites);
    for (size_t k = 0; k < elites; ++k) add(state_.scores[k]);
    for (const GeneticScore& score : state_.fresh) add(score);
    if (static_cast<int64_t>(whole.size()) < count) return {};
    const auto place = whole.begin() + (count - 1);
    std::nth_element(whole.begin(), place, whole.end(), better);
    return *place;
  }

  // False when stopped on the way.
  bool evaluate(const std::vector<Edits>& brood) {
    state_.fresh.resize(brood.size());
    const int64_t count = read_later();
    for (const std::vector<size_t>& group : problem_.group(brood)) {
      const auto known = [&](size_t i) { return state_.fresh[i].known(); };
      if (std::all_of(group.begin(), group.end(), known)) continue;
      if (stop()) return false;
      std::vector<Edits> individuals;
      for (const size_t i : group) individuals.push_back(brood[i]);
      std::vector<GeneticScore> scores(group.size());
      if (!problem_.evaluate(individuals, floor_of(count), scores)) return false;
      for (size_t k = 0; k < group.size(); ++k) {
        scores[k].changed = static_cast<int64_t>(individuals[k].size());
        state_.fresh[group[k]] = scores[k];
      }
      state_.evaluations += static_cast<int64_t>(group.size());
      if (hooks_.after_group) hooks_.after_group(state_);
    }
    return true;
  }

  void close_generation(const std::vector<Edits>& brood) {
    const bool first = state_.population.empty();
    const int64_t before = first ? -1 : state_.scores[0].correct;
    if (!first) {
      state_.population.resize(settings_.elites);
      state_.scores.resize(settings_.elites);
    }
    std::vector<Edits> all = std::move(state_.population);
    std::vector<GeneticScore> scores = std::move(state_.scores);
    all.insert(all.end(), brood.begin(), brood.end());
    scores.insert(scores.end(), state_.fresh.begin(), state_.fresh.end());
    std::vector<size_t> order(all.size());
    std::iota(order.begin(), order.end(), size_t{0});
    // Stable: of equals the elite goes first, so what was best stays until something is better.
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return better(scores[a], scores[b]); });
    state_.population.clear();
    state_.scores.clear();
    for (const size_t i : order) {
      state_.population.push_back(std::move(all[i]));
      state_.scores.push_back(scores[i]);
    }
    state_.fresh.clear();
    const int64_t best = state_.scores[0].correct;
    state_.stalled = best > before ? 0 : state_.stalled + 1;
    state_.series.push_back(static_cast<double>(best));
    ++state_.generation;
    if (hooks_.after_generation) hooks_.after_generation(state_);
  }

  const GeneticSettings& settings_;
  const BreedingDraws& draws_;
  const GeneticProblem& problem_;
  const GeneticHooks& hooks_;
  GeneticState state_;
};

constexpr int64_t kColumns = 4;

// (individuals, 4); counts of inputs and of values are exact in float64.
at::Tensor table_of(const std::vector<GeneticScore>& scores) {
  std::vector<double> flat;
  for (const GeneticScore& score : scores) {
    flat.insert(flat.end(), {static_cast<double>(score.correct), score.loss,
                             static_cast<double>(score.changed), static_cast<double>(score.left)});
  }
  return at::tensor(flat, at::kDouble).view({static_cast<int64_t>(scores.size()), kColumns});
}

std::vector<GeneticScore> scores_of(const at::Tensor& table) {
  std::vector<GeneticScore> scores;
  const double* const flat = table.const_data_ptr<double>();
  for (int64_t i = 0; i < table.size(0); ++i) {
    const double* const row = flat + kColumns * i;
    scores.push_back({static_cast<int64_t>(row[0]), row[1], static_cast<int64_t>(row[2]), row[3] != 0});
  }
  return scores;
}

}  // namespace

bool better(const GeneticScore& a, const GeneticScore& b) {
  if (a.left != b.left) return b.left;
  if (a.correct != b.correct) return a.correct > b.correct;
  const auto loss = [](const GeneticScore& score) {
    return std::isfinite(score.loss) ? score.loss : std::numeric_limits<double>::infinity();
  };
  if (loss(a) != loss(b)) return loss(a) < loss(b);
  return a.changed < b.changed;
}

bool finished(const GeneticState& state, const GeneticSettings& settings) {
  if (state.population.empty()) return false;
  return state.generation > settings.generations || state.stalled >= settings.stall ||
         state.scores[0].correct >= settings.perfect;
}

bool falls_below(const GeneticScore& bound, const GeneticScore& floor) {
  if (!floor.known()) return false;
  return bound.correct < floor.correct || (bound.correct == floor.correct && bound.loss > floor.loss);
}

BreedingDraws seeded_breeding(uint64_t seed, const GeneticSettings& settings) {
  return [seed, population = settings.population, size = settings.tournament](int64_t generation,
                                                                              int64_t individual) {
    const std::string place = "/" + std::to_string(generation) + "/" + std::to_string(individual);
    const auto stream = [&](const char* purpose) { return RandomStream(derive_seed(seed, purpose + place)); };
    Breeding breeding{{}, {}, 0, stream("exchange"), stream("mutation")};
    RandomStream parents = stream("parents");
    for (std::vector<int64_t>* contestants : {&breeding.first, &breeding.second}) {
      for (int64_t k = 0; k < size; ++k) contestants->push_back(parents.below(population));
    }
    breeding.crossover = parents.uniform();
    return breeding;
  };
}

void GeneticState::save(std::map<std::string, at::Tensor>& tensors) const {
  tensors["genetic.position"] = at::tensor(std::vector<int64_t>{generation, stalled, evaluations}, at::kLong);
  save_edits(population, "genetic.population", tensors);
  tensors["genetic.scores"] = table_of(scores);
  tensors["genetic.fresh"] = table_of(fresh);
  tensors["genetic.series"] = at::tensor(series, at::kDouble);
}

std::optional<GeneticState> GeneticState::load(const std::map<std::string, at::Tensor>& tensors) {
  const auto position = tensors.find("genetic.position");
  if (position == tensors.end()) return std::nullopt;
  const int64_t* const numbers = position->second.const_data_ptr<int64_t>();
  GeneticState state;
  state.generation = numbers[0];
  state.stalled = numbers[1];
  state.evaluations = numbers[2];
  state.population = load_edits("genetic.population", tensors);
  state.scores = scores_of(tensors.at("genetic.scores"));
  state.fresh = scores_of(tensors.at("genetic.fresh"));
  const at::Tensor& series = tensors.at("genetic.series");
  state.series.assign(series.const_data_ptr<double>(), series.const_data_ptr<double>() + series.numel());
  return state;
}

GeneticResult search_genetically(const GeneticSettings& settings, const BreedingDraws& draws,
                                 const GeneticProblem& problem, const GeneticHooks& hooks,
                                 std::optional<GeneticState> resumed) {
  if (settings.elites < 1 || settings.elites >= settings.population || settings.tournament < 1) {
    interface_misuse("a genetic search needs an elite, fewer elites than individuals, and contestants");
  }
  GeneticState state = resumed ? std::move(*resumed) : GeneticState();
  return GeneticSearch(settings, draws, problem, hooks, std::move(state)).run();
}

}  // namespace harness::search
