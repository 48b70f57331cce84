#pragma once

#include <functional>
#include <string>
#include <vector>

#include "approaches/search/candidate_evaluator.hpp"
#include "approaches/search/differential_evolution.hpp"
#include "approaches/search/edits.hpp"
#include "approaches/search/genetic.hpp"
#include "approaches/search/particle_swarm.hpp"

namespace harness {

// Adds what it stands for to a checkpoint.
using AddState = std::function<void(CheckpointState&)>;

// One search of a fix, beside its optimiser: all that differs in what every search does.
struct SearchStage {
  std::string what = "search";       // text of its progress
  std::string measured = "fitness";  // scalars "original_fitness" and "best_fitness", and a series
  bool log_series = true;            // "best_fitness" for each round
  std::string first = "candidate was evaluated";  // what a search that is stopped before has not done
  AddState save = {};                             // what the approach itself needs to go on from a checkpoint
  int64_t number = 0, of = 1;                     // its place among all searches of the fix
  bool resumes = true;  // whether the fix's checkpoint, if there is one, was written in it
};

// What an optimiser found, whichever it was.
struct SearchResult {
  bool found = false;             // false: stopped before anything was evaluated
  std::vector<double> best = {};  // of vectors of numbers
  double best_fitness = 0;
  Edits best_edits = {};  // both of genetic searches
  GeneticScore best_score = {};
  int64_t rounds = 0;                         // finished ones
  std::string name_of_rounds = "iterations";  // or "generations"
  int64_t evaluations = 0;
  std::vector<double> series = {};  // best fitness of each round
  bool stopped = false;
};

// A search under way: shows its progress and saves it. Each function gets the optimiser's own state.
class SearchWatch {
 public:
  SearchWatch(FixContext& context, const SearchStage& stage) : context_(context), stage_(stage) {}
  const Stop& stop() const { return context_.stop(); }
  // The checkpoint to go on from; null where the search begins.
  const CheckpointState* saved() const;
  // `done`: share of this search, from 0 to 1; `what`: in place of the stage's text.
  void progress(double done, const std::string& what = "") const;
  void save_if_due(const AddState& own) const;
  void save(const AddState& own) const;

 private:
  FixContext& context_;
  const SearchStage& stage_;
};

// An optimiser with its settings and what it evaluates candidates with.
using Optimiser = std::function<SearchResult(const SearchWatch&)>;
Optimiser differential_evolution(EvolutionSettings settings, uint64_t seed, EvaluateCandidates evaluate);
Optimiser particle_swarm(SwarmSettings settings, uint64_t seed, EvaluateSwarm evaluate);
// `prepare`: before each generation, as in GeneticHooks; it may call `pause` wherever it could go on from.
using PrepareGeneration =
    std::function<bool(const GeneticState&, const std::function<void(const std::string& what)>& pause)>;
Optimiser genetic_search(GeneticSettings settings, uint64_t seed, GeneticProblem problem,
                         PrepareGeneration prepare);

// Runs the optimiser from its beginning or from the fix's checkpoint, with progress and checkpoints, also
// where a stop ends it. Adds to the counters "evaluations" and "generations" or "iterations".
SearchResult search(FixContext& context, const Optimiser& optimiser, const SearchStage& stage);

// What the best candidate of a search is worth.
struct Judged {
  double original = 0, best = 0;  // by what the search maximises
  Edits edits = {};               // the candidate as new values of weights
  std::string limitation = {};    // why the original is returned instead; empty: it is not
};
// `keep_original`: where no candidate is better. `values`: of the evaluator's weights.
Judged judged(const CandidateEvaluator& evaluator, double best_fitness, const std::vector<double>& values,
              bool keep_original);

// search(), and its end as the result of the fix: the original with the best candidate's values, or the
// original, or FAILURE timeout where nothing was evaluated. `judge` is called where something was.
FixResult run_search(const Network& original, FixContext& context, const Optimiser& optimiser,
                     const SearchStage& stage, const std::function<Judged(const SearchResult&)>& judge);

}  // namespace harness
