#include "harness/model/gradient_plan.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace harness {
namespace {

// Below this many input channels oneDNN's backward convolution is slower than a forward one with the flipped
// kernel, by 1.5 (3 channels) to 5 times (1 channel).
constexpr int64_t kFlipBelowChannels = 16;

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

// A value that nothing but its one reader needs, neither here nor in the reverse sweep, and that shares its
// memory with no other value.
bool is_expendable(const GradientStep& step) {
  switch (step.rule) {
    case BackwardRule::conv:
    case BackwardRule::linear:
    case BackwardRule::scale:
    case BackwardRule::max_pool:
    case BackwardRule::sum:
      return step.readers == 1;
    default:
      return false;
  }
}

}  // namespace

std::vector<GradientStep> plan_gradient(const Network& network, NodeId target) {
  std::vector<GradientStep> steps;
  for (PlanStep& step : folded_steps(network, target)) {
    GradientStep& next = steps.emplace_back();
    static_cast<PlanStep&>(next) = std::move(step);
  }
  pool_before_relu(steps);
  join_conv_and_pool(steps);
  const auto node_of = [&](NodeId id) -> const Node& { return steps[static_cast<size_t>(id)].node; };
  for (GradientStep& step : steps) {
    step.rule = step.scale ? BackwardRule::scale : backward_rule(step.node, node_of);
    if (step.rule == BackwardRule::conv && !step.conv_pool) prepare_conv(step);
    if (step.rule != BackwardRule::relu && step.rule != BackwardRule::sum) continue;
    step.in_place = is_expendable(steps[static_cast<size_t>(step.node.inputs[0])]);
  }
  return steps;
}

}  // namespace harness
