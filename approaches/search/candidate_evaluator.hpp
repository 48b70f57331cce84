#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "approaches/search/fitness.hpp"
#include "approaches/weights.hpp"

namespace harness {

// Evaluates candidate values for a few weights of a network on fixed inputs, without changing the network.
// Which way is a pure function of the touched weights:
//   touched_logits  all of them in the last dense layer: only the touched classes' logits are computed anew
//   suffix          else: the network from the first touched node on, over cached values of the nodes before
//   it
//                   (computed anew for each candidate where they would take more than kCacheLimit bytes)
class CandidateEvaluator {
 public:
  struct Setup {
    const Network& network;
    const Split& split;
    std::vector<int64_t> positives, negatives;  // positions in the split
    std::vector<WeightRef> weights;             // at least one
    double alpha = 10;
    bool compat_softmax = false;
    int64_t batch = 250;
  };
  explicit CandidateEvaluator(const Setup& setup);
  ~CandidateEvaluator();
  CandidateEvaluator(const CandidateEvaluator&) = delete;
  CandidateEvaluator& operator=(const CandidateEvaluator&) = delete;

  // K candidates (K x weights, row-major), each rounded to float32; the signature differential_evolution.hpp
  // asks for. Several candidates are evaluated in parallel or as one batch.
  void evaluate(std::span<const double> candidates, std::span<const double> floors,
                std::span<double> fitness) const;
  Verdict judge(std::span<const double> candidate) const;
  const Fitness& fitness() const;
  std::string way() const;  // "touched_logits" or "suffix"

 private:
  class TouchedWay;
  class SuffixWay;
  Fitness fitness_;
  std::unique_ptr<TouchedWay> touched_;
  std::unique_ptr<SuffixWay> suffix_;
};
inline constexpr int64_t kCacheLimit = int64_t{4} << 30;

}  // namespace harness
