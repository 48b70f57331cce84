#pragma once

// Internal to harness/model: what InputGradient runs instead of the network's nodes.
#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "harness/model/conv_pool.hpp"
#include "harness/model/fold.hpp"

namespace harness {

// How a step's gradient is computed.
enum class Sweep {
  input,
  conv,       // two spatial dimensions
  conv_pool,  // ConvPool
  linear,
  scale,
  relu,
  max_pool,  // two spatial dimensions
  add,       // of two values of one shape
  concat,
  reshape,
  softmax,
  autograd,  // any other kind: its ATen operator, recorded by autograd for itself alone
};

struct GradientStep : PlanStep {
  Sweep sweep = Sweep::autograd;
  bool in_place = false;  // may overwrite its first input's value
  at::Tensor flipped;     // conv: the kernel of its input gradient as a forward convolution
  std::vector<int64_t> flipped_padding;
  std::optional<ConvPool> conv_pool;
};

// folded_steps() with the way each one's gradient is computed. ReLU goes behind a max pooling that alone
// reads it, with which it commutes (in value and gradient). On the CPU convolutions take their weights in
// channels-last order.
std::vector<GradientStep> plan_gradient(const Network& network, NodeId target);

}  // namespace harness
