#pragma once

// Internal to harness/model: the graph as the fast forms of it start from (gradients, inference).
// Gain alone (build/bench_fast, one thread, 64 images): 1.2 times on ResNet20, 1.1 on ResNet18 and VGG16. It
// is here because of what it makes possible: a convolution takes the activation and the sum behind it into
// one kernel only where no batch norm is between them (inference.hpp: 2.4 times on ResNet20).
#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "harness/model/graph.hpp"

namespace harness {

// |layer(x)| <= gain * |x| + offset, over all values of x and of the result, for a layer that is linear in x.
struct Gain {
  double gain = 0, offset = 0;
  double operator()(double magnitude) const { return gain * magnitude + offset; }
};
// Of a convolution or linear layer (rows: output channels); `bias` may be undefined.
Gain gain_of(const at::Tensor& weight, const at::Tensor& bias);

struct PlanStep {
  Node node;                           // kind, attributes and output shape (node.inputs: steps)
  std::vector<at::Tensor> parameters;  // constants without grad; of a scale: factor, addend as (C,1,1)
  int readers = 0;
  bool scale = false;               // a batch norm no layer could take: a factor and an addend per channel
  std::optional<Gain> before_norm;  // of a layer that took a batch norm: without it
};

// What `target` depends on, in order, as in evaluation mode: step 0 is the input, the last one computes
// `target`. Dropout is left out. Parameters are copied with what can be folded into them (in double
// precision): batch norm into the convolution or linear layer before it, where nothing else reads that.
std::vector<PlanStep> folded_steps(const Network& network, NodeId target);
// The same nodes with nothing folded; parameters are those of the network itself, not copies.
std::vector<PlanStep> plain_steps(const Network& network, NodeId target);

// Removes step `gone`, whose readers read `instead` (an earlier step) from now on.
template <typename Step>
void remove_step(std::vector<Step>& steps, NodeId gone, NodeId instead) {
  steps.erase(steps.begin() + gone);
  for (size_t i = static_cast<size_t>(gone); i < steps.size(); ++i) {
    for (NodeId& input : steps[i].node.inputs) {
      if (input == gone) {
        input = instead;
      } else if (input > gone) {
        --input;
      }
    }
  }
}

// graph::is_plain_sum() of a step's node.
template <typename Step>
bool is_plain_sum(const std::vector<Step>& steps, const Node& node) {
  return graph::is_plain_sum(node,
                             [&](NodeId id) -> const Node& { return steps[static_cast<size_t>(id)].node; });
}

}  // namespace harness
