#include "harness/model/execute.hpp"

#include <ATen/ATen.h>

#include "harness/core/random.hpp"
#include "harness/model/dropout_mask.hpp"

namespace harness {
namespace {

at::Tensor run_conv(const Node& node, const at::Tensor& x, const std::vector<at::Tensor>& parameters) {
  const auto& a = std::get<ConvAttributes>(node.attributes);
  const std::vector<int64_t> no_output_padding(a.stride.size(), 0);
  return at::convolution(x, parameters[0], parameters[1], a.stride, a.padding, a.dilation,
                         /*transposed=*/false, no_output_padding, a.groups);
}

at::Tensor run_batch_norm(const Node& node, const at::Tensor& x, const std::vector<at::Tensor>& parameters,
                          const PassMode& mode) {
  const auto& a = std::get<BatchNormAttributes>(node.attributes);
  return at::batch_norm(x, parameters[0], parameters[1], parameters[2], parameters[3], mode.training,
                        a.momentum, a.epsilon, /*cudnn_enabled=*/true);
}

at::Tensor run_activation(const Node& node, const at::Tensor& x) {
  const auto* a = std::get_if<ActivationAttributes>(&node.attributes);
  switch (node.kind) {
    case NodeKind::relu:
      return at::relu(x);
    case NodeKind::relu6:
      return at::hardtanh(x, 0, 6);
    case NodeKind::leaky_relu:
      return at::leaky_relu(x, a->a);
    case NodeKind::elu:
      return at::elu(x, a->a, a->b);
    case NodeKind::silu:
      return at::silu(x);
    case NodeKind::gelu:
      return at::gelu(x, a->tanh_form ? "tanh" : "none");
    case NodeKind::sigmoid:
      return at::sigmoid(x);
    case NodeKind::tanh:
      return at::tanh(x);
    case NodeKind::hardtanh:
      return at::hardtanh(x, a->a, a->b);
    case NodeKind::hardsigmoid:
      return at::hardsigmoid(x);
    default:
      return at::hardswish(x);
  }
}

at::Tensor run_pool(const Node& node, const at::Tensor& x) {
  const auto& a = std::get<PoolAttributes>(node.attributes);
  const bool max = node.kind == NodeKind::max_pool;
  switch (a.kernel.size()) {
    case 1:
      return max ? at::max_pool1d(x, a.kernel, a.stride, a.padding, a.dilation, a.ceil_mode)
                 : at::avg_pool1d(x, a.kernel, a.stride, a.padding, a.ceil_mode, a.count_include_pad);
    case 2:
      return max ? at::max_pool2d(x, a.kernel, a.stride, a.padding, a.dilation, a.ceil_mode)
                 : at::avg_pool2d(x, a.kernel, a.stride, a.padding, a.ceil_mode, a.count_include_pad,
                                  a.divisor);
    default:
      return max ? at::max_pool3d(x, a.kernel, a.stride, a.padding, a.dilation, a.ceil_mode)
                 : at::avg_pool3d(x, a.kernel, a.stride, a.padding, a.ceil_mode, a.count_include_pad,
                                  a.divisor);
  }
}

at::Tensor run_adaptive_pool(const Node& node, const at::Tensor& x) {
  const auto& dims = std::get<DimsAttributes>(node.attributes).dims;
  const bool max = node.kind == NodeKind::adaptive_max_pool;
  switch (dims.size()) {
    case 1:
      return max ? std::get<0>(at::adaptive_max_pool1d(x, dims)) : at::adaptive_avg_pool1d(x, dims);
    case 2:
      return max ? std::get<0>(at::adaptive_max_pool2d(x, dims)) : at::adaptive_avg_pool2d(x, dims);
    default:
      return max ? std::get<0>(at::adaptive_max_pool3d(x, dims)) : at::adaptive_avg_pool3d(x, dims);
  }
}

at::Tensor run_arithmetic(const Node& node, const std::vector<at::Tensor>& inputs,
                          const std::vector<at::Tensor>& parameters) {
  const auto& a = std::get<ArithmeticAttributes>(node.attributes);
  at::Tensor left = inputs[0], right;
  if (inputs.size() > 1) {
    right = inputs[1];
  } else if (!parameters.empty()) {
    right = parameters[0];
  } else {
    // Wrapped number: takes part in no type promotion, as the TorchScript scalar it stands for.
    right = at::scalar_tensor(a.scalar, left.options());
    right.unsafeGetTensorImpl()->set_wrapped_number(true);
  }
  if (a.reversed) std::swap(left, right);
  switch (node.kind) {
    case NodeKind::add:
      return at::add(left, right, a.alpha);
    case NodeKind::sub:
      return at::sub(left, right, a.alpha);
    case NodeKind::mul:
      return at::mul(left, right);
    default:
      return at::div(left, right);
  }
}

at::Tensor run_dropout(const Node& node, const at::Tensor& x, const PassMode& mode) {
  const auto& a = std::get<DropoutAttributes>(node.attributes);
  if (!mode.training || a.probability == 0) return x;
  if (a.probability >= 1) return x * 0;
  std::vector<int64_t> shape = x.sizes().vec();
  if (a.per_channel) std::fill(shape.begin() + 2, shape.end(), 1);
  return x * dropout_mask(shape, 1 - a.probability, derive_seed(mode.seed, node.name),
                          x.options().requires_grad(false));
}

at::Tensor run_slice(const Node& node, const at::Tensor& x) {
  const auto& a = std::get<SliceAttributes>(node.attributes);
  return a.squeeze ? x.select(a.dim, a.begin) : x.slice(a.dim, a.begin, a.end, a.step);
}

at::Tensor run_concat(const Node& node, const std::vector<at::Tensor>& inputs,
                      const std::vector<at::Tensor>& parameters) {
  const auto& dims = std::get<DimsAttributes>(node.attributes).dims;
  if (parameters.empty()) return at::cat(inputs, dims[0]);
  std::vector<at::Tensor> operands = inputs;
  for (size_t k = 0; k < parameters.size(); ++k) {
    const at::Tensor& once = parameters[k];
    std::vector<int64_t> sizes = inputs[0].sizes().vec();
    const int64_t dim = dims[0] - (inputs[0].dim() - once.dim());
    sizes[static_cast<size_t>(dims[0])] = dim < 0 ? 1 : once.size(dim);
    operands.insert(operands.begin() + dims[k + 1], once.expand(sizes));
  }
  return at::cat(operands, dims[0]);
}

at::Tensor run_reshape(const Node& node, const at::Tensor& x) {
  std::vector<int64_t> sizes = {x.size(0)};
  const auto& rest = std::get<ReshapeAttributes>(node.attributes).sizes;
  sizes.insert(sizes.end(), rest.begin(), rest.end());
  return x.reshape(sizes);
}

at::Tensor run_pad(const Node& node, const at::Tensor& x) {
  const auto& a = std::get<PadAttributes>(node.attributes);
  return at::pad(x, a.amounts, a.mode, a.mode == "constant" ? std::optional<double>(a.value) : std::nullopt);
}

}  // namespace

at::Tensor execute(const Node& node, const std::vector<at::Tensor>& inputs,
                   const std::vector<at::Tensor>& parameters, const PassMode& mode) {
  switch (node.kind) {
    case NodeKind::input:
      return inputs[0];
    case NodeKind::conv:
      return run_conv(node, inputs[0], parameters);
    case NodeKind::linear:
      return at::linear(inputs[0], parameters[0], parameters[1]);
    case NodeKind::batch_norm:
      return run_batch_norm(node, inputs[0], parameters, mode);
    case NodeKind::softmax:
      return at::softmax(inputs[0], std::get<DimsAttributes>(node.attributes).dims[0]);
    case NodeKind::log_softmax:
      return at::log_softmax(inputs[0], std::get<DimsAttributes>(node.attributes).dims[0]);
    case NodeKind::max_pool:
    case NodeKind::avg_pool:
      return run_pool(node, inputs[0]);
    case NodeKind::adaptive_max_pool:
    case NodeKind::adaptive_avg_pool:
      return run_adaptive_pool(node, inputs[0]);
    case NodeKind::mean: {
      const auto& a = std::get<DimsAttributes>(node.attributes);
      return at::mean(inputs[0], a.dims, a.keep);
    }
    case NodeKind::add:
    case NodeKind::sub:
    case NodeKind::mul:
    case NodeKind::div:
      return run_arithmetic(node, inputs, parameters);
    case NodeKind::concat:
      return run_concat(node, inputs, parameters);
    case NodeKind::reshape:
      return run_reshape(node, inputs[0]);
    case NodeKind::permute:
      return inputs[0].permute(std::get<DimsAttributes>(node.attributes).dims);
    case NodeKind::slice:
      return run_slice(node, inputs[0]);
    case NodeKind::pad:
      return run_pad(node, inputs[0]);
    case NodeKind::dropout:
      return run_dropout(node, inputs[0], mode);
    default:
      return run_activation(node, inputs[0]);
  }
}

int64_t spatial_dimensions(const Node& node) {
  return static_cast<int64_t>(node.shape.size()) - 1;
}

}  // namespace harness
