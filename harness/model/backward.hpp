#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "harness/model/node.hpp"

namespace harness {

// How the gradient of a node is computed, one rule for each kind of node. Both reverse sweeps of this project
// use them: with respect to inputs (fast/input_gradient.hpp) and to weights
// (approaches/train/weight_gradients.hpp). All in evaluation mode.
enum class BackwardRule : uint8_t {
  conv,
  linear,
  batch_norm,  // with running averages
  scale,       // a batch norm as addend + factor * x: no kind of node, but a step of a folded graph
  relu,
  max_pool,  // two spatial dimensions
  sum,       // of two values of one shape, without a factor
  concat,    // of nodes alone
  reshape,
  softmax,
  autograd,  // any other: the node's ATen operator is recorded by autograd, for itself alone
};

// `node_of`: the node of an id among `node`'s inputs.
BackwardRule backward_rule(const Node& node, const std::function<const Node&(NodeId)>& node_of);

// One node as a sweep comes past it. Parameters are constants, in the order of the node's roles; of a scale
// factor and addend, of a shape that fits the value. An absent parameter is an undefined tensor.
struct BackwardNode {
  BackwardRule rule;
  const Node& node;
  const std::vector<at::Tensor>& inputs;
  const std::vector<at::Tensor>& parameters;
};

// What the forward pass of a node leaves for the reverse sweep.
struct ForwardValue {
  at::Tensor value;
  at::Tensor positions;  // of a max pooling; else undefined
};
// The value of a node, without history. Not for the rule `autograd`.
ForwardValue forward_value(const BackwardNode& of);

// d loss / d input k, from `gradient`, d loss / d value. Not for the rule `autograd`. The result may share
// memory with `gradient` where shares_gradient() says so, and never does elsewhere.
at::Tensor input_gradient(const BackwardNode& of, const ForwardValue& forward, const at::Tensor& gradient,
                          size_t k);
bool shares_gradient(BackwardRule rule);

// d loss / d weight and bias of conv, linear and batch_norm, summed over the images of `x` (input 0) and
// `gradient`; undefined where it is not wanted.
struct ParameterGradients {
  at::Tensor weight, bias;
};
bool has_parameters(BackwardRule rule);
ParameterGradients parameter_gradients(const BackwardNode& of, const at::Tensor& x,
                                       const at::Tensor& gradient, bool weight, bool bias);

}  // namespace harness
