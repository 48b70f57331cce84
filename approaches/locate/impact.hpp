#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "approaches/weights.hpp"
#include "harness/core/stop.hpp"

namespace harness::locate {

// How much every weight of a layer has to do with a set A of inputs (approaches/docs/AR.md, Formulas).
struct WeightScores {
  at::Tensor gradient_loss;  // |sum over A of dCE/dw|: a sum, so it grows with A
  at::Tensor
      forward_impact;  // share of the weight in its unit's input, times the share of the unit behind it
};                     // both float64, CPU, shape of the kernel

struct ImpactSettings {
  // CE, and the sum of outputs whose gradient is taken, on the softmax's output instead of the logits (what
  // the reference does); without effect on models that end in logits.
  bool compat_softmax = false;
  // Share of a weight in a convolution: of each input and output position on its own. Else as the reference
  // has it: of the position's total over the whole of A, which is smaller by a factor of about |A|.
  bool conv_per_sample = false;
  Batching batching = 250;
};

// One entry a layer. `samples` are positions in the split; with none of them all scores are 0.
std::vector<WeightScores> weight_scores(const Network& network, const std::vector<TargetLayer>& layers,
                                        const Split& split, const std::vector<int64_t>& samples,
                                        const ImpactSettings& settings);

}  // namespace harness::locate
