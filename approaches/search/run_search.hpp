#pragma once

#include <functional>
#include <string>
#include <vector>

#include "approaches/search/candidate_evaluator.hpp"
#include "approaches/search/differential_evolution.hpp"
#include "approaches/search/edits.hpp"
#include "approaches/search/genetic.hpp"
#include "approaches/search/particle_swarm.hpp"

namespace harness::search {

// Adds tensors to a checkpoint.
using AddState = std::function<void(CheckpointState&)>;

// One search of a fix, beside its optimiser.
struct SearchStage {
  std::string what = "search";       // text of the progress
  std::string measured = "fitness";  // logged as "original_fitness", "best_fitness" and a series of that name
  bool log_series = true;            // false: the caller does
  std::string first = "population was complete";  // "stopped before the first ...", of a FAILURE timeout
  AddState save = {};          // what the approach needs beside the optimiser's state to go on
  int64_t number = 0, of = 1;  // place among the searches of the fix, for the progress
  bool resumes = true;         // goes on from the fix's checkpoint, where there is one
};

// What an optimiser found, whichever it was.
struct SearchResult {
  // Whether there is a best: from the moment on that the whole first population (of a swarm: all particles,
  // once) was evaluated. What is best of a part of it says nothing of the search.
  bool found = false;
  int64_t first_evaluated = 0, first_size = 0;  // of that population, while it was not complete
  std::vector<double> best = {};                // one number a dimension; not of genetic searches
  double best_fitness = 0;
  std::vector<double> details = {};  // of the best (EvolutionHooks)
  Edits best_edits = {};             // genetic searches: the best individual and its score
  GeneticScore best_score = {};
  int64_t rounds = 0;                         // finished ones
  std::string name_of_rounds = "iterations";  // or "generations"
  int64_t evaluations = 0;
  std::vector<double> series = {};  // best fitness after each round
  bool stopped = false;
};

// What an optimiser needs of the fix that it runs in.
class SearchWatch {
 public:
  // Both must outlive it.
  SearchWatch(FixContext& context, const SearchStage& stage) : context_(context), stage_(stage) {}
  const Stop& stop() const { return context_.stop(); }
  // The checkpoint to go on from; null where the search begins.
  const CheckpointState* saved() const;
  // `done`: share of this search, from 0 to 1. `what` replaces the stage's text.
  void progress(double done, const std::string& what = "") const;
  // Checkpoints of the optimiser's state, which `own` adds, and the approach's.
  void save_if_due(const AddState& own) const;
  void save(const AddState& own) const;

 private:
  FixContext& context_;
  const SearchStage& stage_;
};

// An optimiser with its settings, and a way to evaluate its candidates.
using Optimiser = std::function<SearchResult(const SearchWatch&)>;
// `hooks`: details and settle, where they are wanted.
Optimiser differential_evolution(EvolutionSettings settings, uint64_t seed, EvaluateCandidates evaluate,
                                 EvolutionHooks hooks = {});
Optimiser particle_swarm(SwarmSettings settings, uint64_t seed, EvaluateSwarm evaluate);
// `prepare` is that of GeneticHooks. It calls `between` where the search could go on from, with the text of
// the progress.
using PrepareGeneration =
    std::function<bool(const GeneticState&, const std::function<void(const std::string& what)>& between)>;
Optimiser genetic_search(GeneticSettings settings, uint64_t seed, GeneticProblem problem,
                         PrepareGeneration prepare);

// Runs an optimiser from its beginning or from the fix's checkpoint, and saves it where it is stopped. Adds
// to the counters "evaluations" and "generations" or "iterations".
SearchResult search(FixContext& context, const Optimiser& optimiser, const SearchStage& stage);

// What the best candidate of a search is worth.
struct Judged {
  double original = 0, best = 0;  // by what the search maximises
  Edits edits = {};               // the candidate as new values of weights
  std::string limitation = {};    // why the original is returned instead; empty: it is not
};
// `keep_original`: where no candidate is better. `values`: of the evaluator's weights.
Judged judged(const CandidateEvaluator& evaluator, double original_fitness, double best_fitness,
              const std::vector<double>& values, bool keep_original);

// A whole fix by one search: the original with the best candidate's values; the original itself, with a note,
// where `judge` says why; FAILURE timeout where a stop came before the first population was complete, which
// `judge` then is not called for.
FixResult run_search(const Network& original, FixContext& context, const Optimiser& optimiser,
                     const SearchStage& stage, const std::function<Judged(const SearchResult&)>& judge);

}  // namespace harness::search
