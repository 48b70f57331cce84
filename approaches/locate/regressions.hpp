#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "approaches/weights.hpp"
#include "harness/core/stop.hpp"

namespace harness::locate {

// Inputs that the last training epoch made wrong (regressed), and those that it made right (improved).
struct EpochEffect {
  std::vector<int64_t> regressed, improved;  // positions in the split, ascending
};

struct RegressionSettings {
  std::string backward = "loss";  // whose gradient: loss | logit_sum | compat (sum of the model's outputs)
  double reduction_rate = 1;
  bool widen = false;              // double the rate until a weight is left, or all have been considered
  std::string delta_over = "all";  // tensors that share the change: all trainable ones | dense_kernels
  Batching batching = 250;         // its stop is checked between two rates, too
};

struct RegressionWeights {
  std::vector<WeightRef> weights = {};                   // by layer, then by position
  double rate = 0;                                       // the last one that was tried
  int64_t tensors = 0;                                   // over which the change is normalised
  std::vector<int64_t> considered = {}, localised = {};  // of each layer: k_t, and weights that are left
};

// Weights of the dense `layers` that changed much in the last epoch and matter for what it made worse, not
// for what it made better (approaches/docs/NR.md, Formulas). Scores are computed once, whatever rates are
// tried. `before`: values of the network's parameters one
// epoch earlier, by name. Of equal scores the first in the kernel comes first.
RegressionWeights regression_weights(const Network& network, const std::map<std::string, at::Tensor>& before,
                                     const std::vector<TargetLayer>& layers, const Split& split,
                                     const EpochEffect& effect, const RegressionSettings& settings);

// uint8, flat: 1 for the `count` largest of `scores` (float64, CPU); NaN counts as the least.
at::Tensor among_largest(const at::Tensor& scores, int64_t count);

}  // namespace harness::locate
