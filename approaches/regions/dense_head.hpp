#pragma once

#include <variant>
#include <vector>

#include "harness/approach/approach.hpp"

namespace harness::regions {

// z = weight x + bias in double precision on the CPU, as in evaluation mode: batch norm folded in, dropout
// left out, neighbours without an activation between them made one.
struct DenseLayer {
  at::Tensor weight, bias;  // (out, in), (out)
  NodeId value = -1;        // node that has z, (N, out)
  double slope = 0;         // hidden layers: of the activation for negative z; 0 for ReLU
  int64_t units() const { return bias.size(0); }
};

// The dense part at the end of a network: linear layers with ReLU or leaky ReLU between them, a continuous
// piecewise linear function of the features.
struct DenseHead {
  NodeId cut = -1;                 // node whose value (N, features) the head reads, and nothing else
  std::vector<DenseLayer> hidden;  // at least one
  DenseLayer output;               // the logits
  int64_t features() const { return hidden.front().weight.size(1); }
};

// Goes back from the logits, over layers on (N, features), to where the features come from. Refusals, which
// name a layer: `operator` (the model cannot be imported, or another activation, which need not be piecewise
// linear), `structure` (no hidden layer).
std::variant<DenseHead, Refusal> dense_head(const Network& network);

}  // namespace harness::regions
