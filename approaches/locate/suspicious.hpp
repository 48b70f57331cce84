#pragma once

#include <vector>

#include "approaches/weights.hpp"
#include "harness/core/stop.hpp"

namespace harness::locate {

struct SuspicionSettings {
  int64_t candidates = 1000;  // weights with the greatest gradients that are looked at
  bool first_only = false;    // forward impact of the first negative alone, as the reference has it
  Batching batching = 250;
};

// Weights of the last dense layer on the Pareto front of two scores (approaches/docs/DTR.md, Formulas): the
// size of the loss's gradient summed over the negatives, and the mean size of the weight times its input.
// `layer` gives the logits; `negatives` are positions in the split, at least one. In the order of the kernel.
std::vector<WeightRef> suspicious_weights(const Network& network, const TargetLayer& layer,
                                          const Split& split, const std::vector<int64_t>& negatives,
                                          const SuspicionSettings& settings);

}  // namespace harness::locate
