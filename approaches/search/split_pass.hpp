#pragma once

#include <vector>

#include "approaches/locate/faults.hpp"
#include "approaches/search/candidate_evaluator.hpp"

namespace harness::search {

// One pass of a network over a split, kept: who is right, how narrowly, and what an evaluator of candidates
// takes as known, so that it need not go through the network for that.
class SplitPass {
 public:
  // batching.stop is checked before each batch, and ends the pass by FixStopped.
  SplitPass(const Network& network, const Split& split, const Batching& batching);

  const locate::Judgement& judgement() const { return judgement_; }
  // Of the inputs at `positions` of the split, in that order.
  CandidateEvaluator::Known known(const std::vector<int64_t>& positions) const;
  // The `count` of `positions` whose label's logit is least far above (or furthest below) the largest other
  // one; all where there are no more. Ascending.
  std::vector<int64_t> narrowest(const std::vector<int64_t>& positions, int64_t count) const;

 private:
  locate::Judgement judgement_;
  CandidateEvaluator::Known known_;  // of the whole split
};

}  // namespace harness::search
