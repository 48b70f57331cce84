#pragma once

// Internal to harness/model: what InputGradient runs instead of the network's nodes.
#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "harness/model/conv_pool.hpp"
#include "harness/model/network.hpp"

namespace harness {

// How a step's gradient is computed.
enum class Sweep {
  input,
  conv,       // two spatial dimensions
  conv_pool,  // ConvPool
  linear,
  scale,  // batch norm that no convolution could take: a factor and an addend per channel
  relu,
  max_pool,  // two spatial dimensions
  add,       // of two values of one shape
  concat,
  reshape,
  softmax,
  autograd,  // any other kind: its ATen operator, recorded by autograd for itself alone
};

struct GradientStep {
  Sweep sweep = Sweep::autograd;
  Node node;                           // kind, attributes and output shape (node.inputs: steps)
  std::vector<at::Tensor> parameters;  // constants without grad; scale: factor, addend as (C,1,1)
  int readers = 0;
  bool in_place = false;  // may overwrite its first input's value
  at::Tensor flipped;     // conv: the kernel of its input gradient as a forward convolution
  std::vector<int64_t> flipped_padding;
  std::optional<ConvPool> conv_pool;
};

// Steps in order; step 0 is the input, the last one computes `target`. Parameters are copied with what can be
// folded into them (in double precision): batch norm into the convolution or linear layer before it, where
// nothing else reads that. ReLU goes behind a max pooling that alone reads it, with which it commutes (in
// value and gradient). On the CPU convolutions take their weights in channels-last order.
std::vector<GradientStep> plan_gradient(const Network& network, NodeId target);

}  // namespace harness
