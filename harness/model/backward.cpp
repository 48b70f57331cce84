#include "harness/model/backward.hpp"

#include <ATen/ATen.h>

#include "harness/core/error.hpp"
#include "harness/model/execute.hpp"
#include "harness/model/graph.hpp"

namespace harness {
namespace {

at::Tensor conv_input_gradient(const BackwardNode& of, const at::Tensor& gradient) {
  const auto& a = std::get<ConvAttributes>(of.node.attributes);
  const std::vector<int64_t> no_output_padding(a.stride.size(), 0);
  return std::get<0>(at::convolution_backward(
      gradient, of.inputs[0], of.parameters[0], at::OptionalIntArrayRef(), a.stride, a.padding, a.dilation,
      /*transposed=*/false, no_output_padding, a.groups, {true, false, false}));
}

at::Tensor batch_norm_input_gradient(const BackwardNode& of, const at::Tensor& gradient) {
  const double epsilon = std::get<BatchNormAttributes>(of.node.attributes).epsilon;
  at::Tensor factor = at::rsqrt(of.parameters[3] + epsilon);
  if (of.parameters[0].defined()) factor = factor * of.parameters[0];
  std::vector<int64_t> shape(static_cast<size_t>(gradient.dim()), 1);
  shape[1] = -1;
  return gradient * factor.view(shape);
}

at::Tensor max_pool_input_gradient(const BackwardNode& of, const at::Tensor& positions,
                                   const at::Tensor& gradient) {
  const auto& a = std::get<PoolAttributes>(of.node.attributes);
  return at::max_pool2d_with_indices_backward(gradient, of.inputs[0], a.kernel, a.stride, a.padding,
                                              a.dilation, a.ceil_mode, positions);
}

at::Tensor concat_input_gradient(const BackwardNode& of, const at::Tensor& gradient, size_t k) {
  const int64_t dim = std::get<DimsAttributes>(of.node.attributes).dims[0];
  int64_t begin = 0;
  for (size_t before = 0; before < k; ++before) begin += of.inputs[before].size(dim);
  return gradient.narrow(dim, begin, of.inputs[k].size(dim));
}

}  // namespace

BackwardRule backward_rule(const Node& node, const std::function<const Node&(NodeId)>& node_of) {
  const auto where = [](bool holds, BackwardRule rule) { return holds ? rule : BackwardRule::autograd; };
  switch (node.kind) {
    case NodeKind::conv:
      return BackwardRule::conv;
    case NodeKind::linear:
      return BackwardRule::linear;
    case NodeKind::batch_norm:
      return where(graph::parameter_in(node, 2) >= 0 && graph::parameter_in(node, 3) >= 0,
                   BackwardRule::batch_norm);
    case NodeKind::relu:
      return BackwardRule::relu;
    case NodeKind::max_pool:
      return where(std::get<PoolAttributes>(node.attributes).kernel.size() == 2, BackwardRule::max_pool);
    case NodeKind::add:
      return where(graph::is_plain_sum(node, node_of), BackwardRule::sum);
    case NodeKind::concat:
      return where(node.parameters.empty(), BackwardRule::concat);
    case NodeKind::reshape:
      return BackwardRule::reshape;
    case NodeKind::softmax:
      return BackwardRule::softmax;
    default:
      return BackwardRule::autograd;
  }
}

ForwardValue forward_value(const BackwardNode& of) {
  if (of.rule == BackwardRule::scale)
    return {at::addcmul(of.parameters[1], of.inputs[0], of.parameters[0]), {}};
  if (of.rule != BackwardRule::max_pool) return {execute(of.node, of.inputs, of.parameters), {}};
  const auto& a = std::get<PoolAttributes>(of.node.attributes);
  auto [value, positions] =
      at::max_pool2d_with_indices(of.inputs[0], a.kernel, a.stride, a.padding, a.dilation, a.ceil_mode);
  return {value, positions};
}

at::Tensor input_gradient(const BackwardNode& of, const ForwardValue& forward, const at::Tensor& gradient,
                          size_t k) {
  switch (of.rule) {
    case BackwardRule::conv:
      return conv_input_gradient(of, gradient);
    case BackwardRule::linear:
      return at::matmul(gradient, of.parameters[0]);
    case BackwardRule::batch_norm:
      return batch_norm_input_gradient(of, gradient);
    case BackwardRule::scale:
      return at::mul(gradient, of.parameters[0]);
    case BackwardRule::relu:
      return at::threshold_backward(gradient, forward.value, 0);
    case BackwardRule::max_pool:
      return max_pool_input_gradient(of, forward.positions, gradient);
    case BackwardRule::sum:
      return gradient;
    case BackwardRule::concat:
      return concat_input_gradient(of, gradient, k);
    case BackwardRule::reshape:
      return gradient.reshape(of.inputs[0].sizes());
    case BackwardRule::softmax:
      return at::_softmax_backward_data(gradient, forward.value,
                                        std::get<DimsAttributes>(of.node.attributes).dims[0],
                                        forward.value.scalar_type());
    case BackwardRule::autograd:
      break;
  }
  interface_misuse("no rule for the gradient of " + of.node.name);
}

bool shares_gradient(BackwardRule rule) {
  return rule == BackwardRule::sum || rule == BackwardRule::concat || rule == BackwardRule::reshape;
}

bool has_parameters(BackwardRule rule) {
  return rule == BackwardRule::conv || rule == BackwardRule::linear || rule == BackwardRule::batch_norm;
}

ParameterGradients parameter_gradients(const BackwardNode& of, const at::Tensor& x,
                                       const at::Tensor& gradient, bool weight, bool bias) {
  const Node& node = of.node;
  ParameterGradients found;
  if (of.rule == BackwardRule::conv) {
    const auto& a = std::get<ConvAttributes>(node.attributes);
    const std::vector<int64_t> no_output_padding(a.stride.size(), 0);
    std::tie(std::ignore, found.weight, found.bias) = at::convolution_backward(
        gradient, x, of.parameters[0], at::IntArrayRef({gradient.size(1)}), a.stride, a.padding, a.dilation,
        /*transposed=*/false, no_output_padding, a.groups, {false, weight, bias});
  } else if (of.rule == BackwardRule::linear) {
    const at::Tensor flat = gradient.reshape({-1, gradient.size(-1)});
    if (weight) found.weight = at::mm(flat.t(), x.reshape({-1, x.size(-1)}));
    if (bias) found.bias = flat.sum(0);
  } else if (of.rule == BackwardRule::batch_norm) {
    // In evaluation mode the saved statistics are the running ones. The CPU does not read them; CUDA asserts
    // that they are there.
    const double epsilon = std::get<BatchNormAttributes>(node.attributes).epsilon;
    const at::Tensor &mean = of.parameters[2], &variance = of.parameters[3];
    std::tie(std::ignore, found.weight, found.bias) = at::native_batch_norm_backward(
        gradient, x, of.parameters[0], mean, variance, mean, at::rsqrt(variance + epsilon), /*train=*/false,
        epsilon, {false, weight, bias});
  } else {
    interface_misuse("no weights in the rule for " + node.name);
  }
  return found;
}

}  // namespace harness
