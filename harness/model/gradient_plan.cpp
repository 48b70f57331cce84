#include "harness/model/gradient_plan.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace harness {
namespace {

// Below this many input channels oneDNN's backward convolution is slower than a forward one with the flipped
// kernel, by 1.5 (3 channels) to 5 times (1 channel).
constexpr int64_t kFlipBelowChannels = 16;

// The nodes `target` depends on, dropout left out.
std::vector<GradientStep> live_steps(const Network& network, NodeId target) {
  const std::vector<Node>& nodes = network.nodes();
  std::vector<char> live(nodes.size(), 0);
  live[0] = live[static_cast<size_t>(target)] = 1;
  for (NodeId id = target; id > 0; --id) {
    if (!live[static_cast<size_t>(id)]) continue;
    for (NodeId input : nodes[static_cast<size_t>(id)].inputs) live[static_cast<size_t>(input)] = 1;
  }
  std::vector<GradientStep> steps;
  std::vector<NodeId> position(nodes.size(), -1);
  for (NodeId id = 0; id <= target; ++id) {
    const Node& node = nodes[static_cast<size_t>(id)];
    if (!live[static_cast<size_t>(id)]) continue;
    if (node.kind == NodeKind::dropout) {
      position[static_cast<size_t>(id)] = position[static_cast<size_t>(node.inputs[0])];
      continue;
    }
    GradientStep step;
    step.node = node;
    for (NodeId& input : step.node.inputs) input = position[static_cast<size_t>(input)];
    for (ParameterId parameter : node.parameters) {
      step.parameters.push_back(
          parameter < 0 ? at::Tensor() : network.parameters()[static_cast<size_t>(parameter)].value.detach());
    }
    position[static_cast<size_t>(id)] = static_cast<NodeId>(steps.size());
    steps.push_back(std::move(step));
  }
  return steps;
}

void count_readers(std::vector<GradientStep>& steps) {
  for (GradientStep& step : steps) step.readers = 0;
  for (const GradientStep& step : steps) {
    for (NodeId input : step.node.inputs) ++steps[static_cast<size_t>(input)].readers;
  }
}

// Removes step `gone`, whose readers read `instead` (an earlier step) from now on.
void remove_step(std::vector<GradientStep>& steps, NodeId gone, NodeId instead) {
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

// Factor and addend per channel of a batch norm in evaluation mode, in double precision.
std::pair<at::Tensor, at::Tensor> factor_and_addend(const GradientStep& step) {
  const auto& p = step.parameters;
  const double epsilon = std::get<BatchNormAttributes>(step.node.attributes).epsilon;
  at::Tensor factor = p[3].to(at::kDouble).add(epsilon).rsqrt();
  if (p[0].defined()) factor = factor * p[0].to(at::kDouble);
  at::Tensor addend = -p[2].to(at::kDouble) * factor;
  if (p[1].defined()) addend = addend + p[1].to(at::kDouble);
  return {factor, addend};
}

bool has_averages(const GradientStep& step) {
  return step.parameters[2].defined() && step.parameters[3].defined();
}

void fold_batch_norm(std::vector<GradientStep>& steps) {
  for (size_t i = 1; i < steps.size(); ++i) {
    if (steps[i].node.kind != NodeKind::batch_norm || !has_averages(steps[i])) continue;
    const NodeId before = steps[i].node.inputs[0];
    GradientStep& layer = steps[static_cast<size_t>(before)];
    const bool conv = layer.node.kind == NodeKind::conv;
    const bool linear = layer.node.kind == NodeKind::linear && layer.node.shape.size() == 1;
    const auto [factor, addend] = factor_and_addend(steps[i]);
    if ((conv || linear) && layer.readers == 1) {
      at::Tensor& weight = layer.parameters[0];
      at::Tensor& bias = layer.parameters[1];
      const auto type = weight.scalar_type();
      std::vector<int64_t> per_output(static_cast<size_t>(weight.dim()), 1);
      per_output[0] = -1;
      weight = (weight.to(at::kDouble) * factor.view(per_output)).to(type);
      bias = (bias.defined() ? bias.to(at::kDouble) * factor + addend : addend).to(type);
      layer.readers = steps[i].readers;
      remove_step(steps, static_cast<NodeId>(i), before);
      --i;
    } else {
      std::vector<int64_t> per_channel(steps[i].node.shape.size(), 1);
      per_channel[0] = -1;
      const auto type = steps[i].parameters[2].scalar_type();
      steps[i].sweep = Sweep::scale;
      steps[i].parameters = {factor.to(type).view(per_channel), addend.to(type).view(per_channel)};
    }
  }
}

// relu, max_pool  ->  max_pool, relu: fewer values to clamp and to mask.
void pool_before_relu(std::vector<GradientStep>& steps) {
  for (size_t i = steps.size(); i-- > 1;) {
    if (steps[i].node.kind != NodeKind::max_pool) continue;
    GradientStep& relu = steps[static_cast<size_t>(steps[i].node.inputs[0])];
    if (relu.node.kind != NodeKind::relu || relu.readers != 1) continue;
    std::swap(relu.node.kind, steps[i].node.kind);
    std::swap(relu.node.attributes, steps[i].node.attributes);
    relu.node.shape = steps[i].node.shape;
  }
}

void join_conv_and_pool(std::vector<GradientStep>& steps) {
  for (size_t i = 1; i < steps.size(); ++i) {
    if (steps[i].node.kind != NodeKind::max_pool) continue;
    const NodeId before = steps[i].node.inputs[0];
    GradientStep& conv = steps[static_cast<size_t>(before)];
    if (conv.node.kind != NodeKind::conv || conv.readers != 1) continue;
    const at::Tensor& weight = conv.parameters[0];
    if (!weight.is_cpu() || weight.scalar_type() != at::kFloat) continue;
    if (!ConvPool::fits(conv.node, weight, steps[i].node)) continue;
    conv.conv_pool.emplace(conv.node, weight, conv.parameters[1], steps[i].node,
                           steps[static_cast<size_t>(conv.node.inputs[0])].node.shape);
    conv.sweep = Sweep::conv_pool;
    conv.node.shape = steps[i].node.shape;
    conv.readers = steps[i].readers;
    remove_step(steps, static_cast<NodeId>(i), before);
    --i;
  }
}

void prepare_conv(GradientStep& step) {
  const auto& a = std::get<ConvAttributes>(step.node.attributes);
  at::Tensor& weight = step.parameters[0];
  if (weight.dim() != 4) return;
  step.sweep = Sweep::conv;
  const auto order = weight.is_cpu() ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  weight = weight.contiguous(order);
  const std::vector<int64_t> ones = {1, 1};
  const bool simple = a.groups == 1 && a.stride == ones && a.dilation == ones &&
                      a.padding[0] < weight.size(2) && a.padding[1] < weight.size(3);
  if (weight.is_cpu() && simple && weight.size(1) < kFlipBelowChannels) {
    step.flipped = weight.flip({2, 3}).transpose(0, 1).contiguous(order);
    step.flipped_padding = {weight.size(2) - 1 - a.padding[0], weight.size(3) - 1 - a.padding[1]};
  }
}

bool is_plain_sum(const std::vector<GradientStep>& steps, const Node& node) {
  return node.inputs.size() == 2 && std::get<ArithmeticAttributes>(node.attributes).alpha == 1 &&
         steps[static_cast<size_t>(node.inputs[0])].node.shape == node.shape &&
         steps[static_cast<size_t>(node.inputs[1])].node.shape == node.shape;
}

void choose_sweep(std::vector<GradientStep>& steps, size_t position) {
  GradientStep& step = steps[position];
  if (step.sweep != Sweep::autograd) return;  // chosen while joining
  switch (step.node.kind) {
    case NodeKind::input:
      step.sweep = Sweep::input;
      break;
    case NodeKind::conv:
      prepare_conv(step);
      break;
    case NodeKind::linear:
      step.sweep = Sweep::linear;
      break;
    case NodeKind::relu:
      step.sweep = Sweep::relu;
      break;
    case NodeKind::max_pool:
      if (std::get<PoolAttributes>(step.node.attributes).kernel.size() == 2) step.sweep = Sweep::max_pool;
      break;
    case NodeKind::add:
      if (is_plain_sum(steps, step.node)) step.sweep = Sweep::add;
      break;
    case NodeKind::concat:
      step.sweep = Sweep::concat;
      break;
    case NodeKind::reshape:
      step.sweep = Sweep::reshape;
      break;
    case NodeKind::softmax:
      step.sweep = Sweep::softmax;
      break;
    default:
      break;
  }
}

// A value that nothing but its one reader needs, neither here nor in the reverse sweep, and that shares its
// memory with no other value.
bool is_expendable(const GradientStep& step) {
  switch (step.sweep) {
    case Sweep::conv:
    case Sweep::conv_pool:
    case Sweep::linear:
    case Sweep::scale:
    case Sweep::max_pool:
    case Sweep::add:
      return step.readers == 1;
    default:
      return false;
  }
}

}  // namespace

std::vector<GradientStep> plan_gradient(const Network& network, NodeId target) {
  std::vector<GradientStep> steps = live_steps(network, target);
  count_readers(steps);
  fold_batch_norm(steps);
  pool_before_relu(steps);
  join_conv_and_pool(steps);
  for (size_t i = 0; i < steps.size(); ++i) choose_sweep(steps, i);
  for (GradientStep& step : steps) {
    if (step.sweep != Sweep::relu && step.sweep != Sweep::add) continue;
    step.in_place = is_expendable(steps[static_cast<size_t>(step.node.inputs[0])]);
  }
  return steps;
}

}  // namespace harness
