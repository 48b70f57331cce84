#include "harness/model/fast/reach.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "harness/model/graph.hpp"

namespace harness {
namespace {

constexpr double kUnbounded = std::numeric_limits<double>::infinity();

double smallest_magnitude(const at::Tensor& value) {
  return value.abs().min().item<double>();
}

// Of the second operand of add, sub, mul and div; for div its reciprocal.
double operand_reach(const PlanStep& step, const std::vector<double>& inputs, bool reciprocal) {
  const auto& a = std::get<ArithmeticAttributes>(step.node.attributes);
  if (inputs.size() > 1) return reciprocal ? kUnbounded : inputs[1];
  if (!step.parameters.empty()) {
    const at::Tensor& constant = step.parameters[0];
    return reciprocal ? 1 / smallest_magnitude(constant) : largest_magnitude(constant);
  }
  return reciprocal ? 1 / std::abs(a.scalar) : std::abs(a.scalar);
}

double arithmetic_reach(const PlanStep& step, const std::vector<double>& inputs) {
  const auto& a = std::get<ArithmeticAttributes>(step.node.attributes);
  const double factor = std::max(1.0, std::abs(a.alpha));
  switch (step.node.kind) {
    case NodeKind::add:
    case NodeKind::sub:
      return factor * (inputs[0] + operand_reach(step, inputs, false));
    case NodeKind::mul:
      return inputs[0] * operand_reach(step, inputs, false);
    default:
      return a.reversed ? kUnbounded : inputs[0] * operand_reach(step, inputs, true);
  }
}

double average_reach(const Node& node, double input) {
  const auto& a = std::get<PoolAttributes>(node.attributes);
  if (!a.divisor) return input;
  double window = 1;
  for (const int64_t size : a.kernel) window *= static_cast<double>(size);
  return input * std::max(1.0, window / std::abs(static_cast<double>(*a.divisor)));
}

double activation_reach(const Node& node, double input) {
  const auto* a = std::get_if<ActivationAttributes>(&node.attributes);
  switch (node.kind) {
    case NodeKind::relu6:
      return std::min(input, 6.0);
    case NodeKind::hardtanh:
      return std::max(std::abs(a->a), std::abs(a->b));
    case NodeKind::leaky_relu:
      return input * std::max(1.0, std::abs(a->a));
    case NodeKind::elu:
      return std::max(input, std::abs(a->a)) * std::max(1.0, std::abs(a->b));
    case NodeKind::sigmoid:
    case NodeKind::tanh:
    case NodeKind::hardsigmoid:
    case NodeKind::softmax:
      return 1;
    default:
      return input;
  }
}

}  // namespace

double reach_of(const PlanStep& step, const Gain& gain, const std::vector<double>& inputs) {
  const Node& node = step.node;
  switch (node.kind) {
    case NodeKind::conv:
    case NodeKind::linear:
    case NodeKind::batch_norm:
      return gain(inputs[0]);
    case NodeKind::add:
    case NodeKind::sub:
    case NodeKind::mul:
    case NodeKind::div:
      return arithmetic_reach(step, inputs);
    case NodeKind::concat: {  // of nodes, and of parameters that stand beside every image
      double reach = 0;
      for (const double input : inputs) reach = std::max(reach, input);
      for (const at::Tensor& parameter : step.parameters)
        reach = std::max(reach, largest_magnitude(parameter));
      return reach;
    }
    case NodeKind::avg_pool:
      return average_reach(node, inputs[0]);
    case NodeKind::max_pool:
    case NodeKind::adaptive_max_pool:
    case NodeKind::adaptive_avg_pool:
    case NodeKind::mean:
    case NodeKind::reshape:
    case NodeKind::permute:
    case NodeKind::slice:
    case NodeKind::dropout:
      return inputs[0];
    case NodeKind::pad:
      return std::max(inputs[0], std::abs(std::get<PadAttributes>(node.attributes).value));
    case NodeKind::relu:
    case NodeKind::relu6:
    case NodeKind::leaky_relu:
    case NodeKind::elu:
    case NodeKind::silu:
    case NodeKind::gelu:
    case NodeKind::sigmoid:
    case NodeKind::tanh:
    case NodeKind::hardtanh:
    case NodeKind::hardsigmoid:
    case NodeKind::hardswish:
    case NodeKind::softmax:
      // What clamps would make a bound of an infinite value.
      return std::isfinite(inputs[0]) ? activation_reach(node, inputs[0]) : kUnbounded;
    default:
      return kUnbounded;
  }
}

Gain layer_gain(const PlanStep& step) {
  const auto& p = step.parameters;
  if (step.scale) return {largest_magnitude(p[0]), largest_magnitude(p[1])};
  switch (step.node.kind) {
    case NodeKind::conv:
    case NodeKind::linear:
      return gain_of(p[0], p[1]);
    case NodeKind::batch_norm: {
      if (!p[2].defined() || !p[3].defined()) return {kUnbounded, kUnbounded};
      const auto [factor, addend] = graph::batch_norm_map(step.node, p);
      return {largest_magnitude(factor), largest_magnitude(addend)};
    }
    default:
      return {kUnbounded, kUnbounded};
  }
}

double largest_magnitude(const at::Tensor& value) {
  if (value.numel() == 0) return 0;
  // In the order of memory: a reduction of anything else would copy it first.
  const bool channels_last = value.dim() == 4 && value.is_contiguous(at::MemoryFormat::ChannelsLast);
  const auto [low, high] = (channels_last ? value.permute({0, 2, 3, 1}) : value).aminmax();
  const auto min_value = low.item<double>(), max_value = high.item<double>();
  return std::isnan(min_value) ? min_value : std::max(-min_value, max_value);
}

}  // namespace harness
