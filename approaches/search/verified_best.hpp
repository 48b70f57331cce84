#pragma once

#include <optional>
#include <vector>

#include "approaches/search/candidate_evaluator.hpp"
#include "approaches/search/differential_evolution.hpp"
#include "harness/approach/approach.hpp"

namespace harness::search {

// The result of a search that sees a part of the inputs only (approaches/docs/AR.md, Steps in this project,
// 8): the best of every generation is also evaluated on the rest, and the best by both is kept. For
// objectives that are a sum over inputs.
class VerifiedBest {
 public:
  // `rest`: on the inputs that the search does not see. It must outlive this.
  explicit VerifiedBest(const CandidateEvaluator& rest) : rest_(rest) {}

  // EvolutionHooks::settle; details are those of details_of().
  void settle(const EvolutionState& state, const EvolutionBest& best);
  bool any() const { return !values_.empty(); }
  const std::vector<double>& values() const { return values_; }
  double fitness() const { return fitness_; }  // on all inputs
  const std::vector<double>& details() const { return details_; }
  const std::vector<double>& series() const { return series_; }  // fitness() after each generation

  void save(CheckpointState& tensors) const;  // under names "verified.*"
  void load(const CheckpointState& tensors);

 private:
  const CandidateEvaluator& rest_;
  std::vector<double> values_, details_, series_;
  double fitness_ = 0;
  std::vector<double> last_;  // values that were evaluated last
};

// Of a verdict, as numbers: negatives that are right, positives that are wrong.
constexpr int64_t kDetails = 2;
std::vector<double> details_of(const Verdict& verdict);

}  // namespace harness::search
