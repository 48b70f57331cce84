#include "harness/model/fast/gradient_plan.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace harness {
namespace {

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

// Weights of images' convolutions, in the order in memory that their values have.
void order_weight(at::Tensor& weight) {
  if (weight.dim() != 4) return;
  weight = weight.contiguous(weight.is_cpu() ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
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
    if (step.rule == BackwardRule::conv && !step.conv_pool) order_weight(step.parameters[0]);
    if (step.rule != BackwardRule::relu && step.rule != BackwardRule::sum) continue;
    step.in_place = is_expendable(steps[static_cast<size_t>(step.node.inputs[0])]);
  }
  return steps;
}

}  // namespace harness
