#include "approaches/search/run_search.hpp"

#include <algorithm>
#include <utility>

namespace harness::search {
namespace {

// What the results of all optimisers have in common; a stopped search is saved as it was at its end.
template <typename Found>
SearchResult common_result(const SearchWatch& watch, const Found& found, int64_t rounds, const char* name) {
  if (found.stopped) watch.save([&](CheckpointState& tensors) { found.state.save(tensors); });
  return {.rounds = rounds,
          .name_of_rounds = name,
          .evaluations = found.state.evaluations,
          .series = found.state.series,
          .stopped = found.stopped};
}

template <typename Found>
SearchResult vector_result(const SearchWatch& watch, const Found& found, int64_t rounds, const char* name) {
  SearchResult result = common_result(watch, found, rounds, name);
  result.found = !found.best.empty();  // the optimisers keep to what SearchResult says
  result.best = found.best;
  result.best_fitness = found.best_fitness;
  return result;
}

template <typename State>
AddState adds(const State& state) {
  return [&state](CheckpointState& tensors) { state.save(tensors); };
}

template <typename State>
std::optional<State> resumed(const SearchWatch& watch) {
  return watch.saved() == nullptr ? std::nullopt : State::load(*watch.saved());
}

Refusal why_nothing(const SearchResult& found, const SearchStage& stage) {
  if (!found.stopped) return {"no_fix", "no candidate has a fitness that is a number"};
  return {"timeout", "stopped before the first " + stage.first + ": " +
                         std::to_string(found.first_evaluated) + " of " + std::to_string(found.first_size) +
                         " candidates were evaluated"};
}

double share(int64_t done, int64_t all) {
  return static_cast<double>(done) / static_cast<double>(all);
}

}  // namespace

const CheckpointState* SearchWatch::saved() const {
  const std::optional<CheckpointState>& saved = context_.load_checkpoint();
  return saved && stage_.resumes ? &*saved : nullptr;
}

void SearchWatch::progress(double done, const std::string& what) const {
  context_.progress((static_cast<double>(stage_.number) + done) / static_cast<double>(stage_.of),
                    what.empty() ? stage_.what : what);
}

void SearchWatch::save_if_due(const AddState& own) const {
  if (context_.checkpoint_due()) save(own);
}

void SearchWatch::save(const AddState& own) const {
  CheckpointState tensors;
  if (stage_.save) stage_.save(tensors);
  own(tensors);
  context_.save_checkpoint(tensors);
}

Optimiser differential_evolution(EvolutionSettings settings, uint64_t seed, EvaluateCandidates evaluate,
                                 EvolutionHooks hooks) {
  return [=](const SearchWatch& watch) {
    EvolutionHooks all = hooks;
    all.stop = watch.stop();
    all.after_generation = [&](const EvolutionState& state) {
      watch.progress(share(state.generation, settings.generations + 1));
      watch.save_if_due(adds(state));
    };
    const EvolutionResult found = evolve(settings, seeded_draws(seed, settings.population), evaluate, all,
                                         resumed<EvolutionState>(watch));
    SearchResult result = vector_result(watch, found, found.generations, "generations");
    result.details = found.details;
    result.first_size = settings.population;
    result.first_evaluated = found.state.generation > 0 ? settings.population : found.state.next;
    return result;
  };
}

Optimiser particle_swarm(SwarmSettings settings, uint64_t seed, EvaluateSwarm evaluate) {
  return [=](const SearchWatch& watch) {
    // With constriction the start is evaluated, too, and counts as no iteration.
    const int64_t all = settings.iterations + (std::holds_alternative<Constriction>(settings.rule) ? 1 : 0);
    const SwarmHooks hooks{.stop = watch.stop(), .after_iteration = [&](const SwarmState& state) {
                             watch.progress(share(state.evaluated, all));
                             watch.save_if_due(adds(state));
                           }};
    const SwarmResult found =
        swarm(settings, seeded_swarm_draws(seed), evaluate, hooks, resumed<SwarmState>(watch));
    SearchResult result = vector_result(watch, found, found.iterations, "iterations");
    result.first_size = settings.particles;  // evaluated together, or not at all
    result.first_evaluated = result.found ? settings.particles : 0;
    return result;
  };
}

Optimiser genetic_search(GeneticSettings settings, uint64_t seed, GeneticProblem problem,
                         PrepareGeneration prepare) {
  return [=](const SearchWatch& watch) {
    const auto done = [&](const GeneticState& state) {
      return share(state.generation, settings.generations + 1);
    };
    const GeneticHooks hooks{
        .stop = watch.stop(),
        .prepare =
            [&](const GeneticState& state) {
              return prepare(state, [&](const std::string& what) {
                watch.progress(done(state), what);
                watch.save_if_due(adds(state));
              });
            },
        .after_group = [&](const GeneticState& state) { watch.save_if_due(adds(state)); },
        .after_generation =
            [&](const GeneticState& state) {
              watch.progress(done(state));
              watch.save_if_due(adds(state));
            }};
    const GeneticResult found = search_genetically(settings, seeded_breeding(seed, settings), problem, hooks,
                                                   resumed<GeneticState>(watch));
    SearchResult result = common_result(watch, found, found.generations, "generations");
    result.found = !found.state.population.empty();  // only a whole generation becomes one
    result.first_size = settings.population;
    result.first_evaluated =
        result.found ? settings.population : std::ranges::count_if(found.state.fresh, &GeneticScore::known);
    if (!result.found) return result;
    result.best_edits = found.state.population[0];
    result.best_score = found.state.scores[0];
    return result;
  };
}

SearchResult search(FixContext& context, const Optimiser& optimiser, const SearchStage& stage) {
  SearchResult found = optimiser(SearchWatch(context, stage));
  context.log().counters["evaluations"] += found.evaluations;
  context.log().counters[found.name_of_rounds] += found.rounds;
  return found;
}

Judged judged(const CandidateEvaluator& evaluator, double original_fitness, double best_fitness,
              const std::vector<double>& values, bool keep_original) {
  Judged judged{
      .original = original_fitness, .best = best_fitness, .edits = edits_of(evaluator.weights(), values)};
  if (keep_original && !(judged.best > judged.original)) judged.limitation = "no candidate was better";
  return judged;
}

FixResult run_search(const Network& original, FixContext& context, const Optimiser& optimiser,
                     const SearchStage& stage, const std::function<Judged(const SearchResult&)>& judge) {
  const SearchResult found = search(context, optimiser, stage);
  FixLog& log = context.log();
  FixResult result;
  if (stage.log_series) log.series["best_" + stage.measured] = found.series;
  if (!found.found) {
    result.failure = why_nothing(found, stage);
    return result;
  }
  const Judged best = judge(found);
  log.scalars["original_" + stage.measured] = best.original;
  log.scalars["best_" + stage.measured] = best.best;
  result.network = original.fork();
  if (found.stopped) {
    result.note = "stopped after " + std::to_string(found.rounds) + " " + found.name_of_rounds;
  }
  if (!best.limitation.empty()) {
    result.note += (result.note.empty() ? "" : "; ") + ("returned the original: " + best.limitation);
    return result;
  }
  apply_edits(*result.network, best.edits);
  result.touched = touched_by(original, best.edits);
  return result;
}

}  // namespace harness::search
