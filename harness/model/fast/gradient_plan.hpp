#pragma once

// Internal to harness/model: what InputGradient runs instead of the network's nodes. Its gain:
// input_gradient.hpp.
#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "harness/model/backward.hpp"
#include "harness/model/fast/conv_pool.hpp"
#include "harness/model/fast/fold.hpp"

namespace harness {

// A step with the rule of its gradient, and where there is one a faster way than that.
struct GradientStep : PlanStep {
  BackwardRule rule = BackwardRule::autograd;
  bool in_place = false;              // relu, sum: may overwrite its first input's value
  std::optional<ConvPool> conv_pool;  // stands for a convolution and the max pooling behind it
};

// folded_steps() with the way each one's gradient is computed. ReLU goes behind a max pooling that alone
// reads it, with which it commutes (in value and gradient). On the CPU convolutions take their weights in
// channels-last order.
std::vector<GradientStep> plan_gradient(const Network& network, NodeId target);

}  // namespace harness
