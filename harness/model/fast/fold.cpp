#include "harness/model/fast/fold.hpp"

#include <ATen/ATen.h>

#include "harness/model/graph.hpp"

namespace harness {
namespace {

// The nodes `target` depends on, dropout left out; parameters as the network has them.
std::vector<PlanStep> live_steps(const Network& network, NodeId target) {
  const std::vector<Node>& nodes = network.nodes();
  const graph::Marks live = graph::needed_for(nodes, {0, target});
  std::vector<PlanStep> steps;
  std::vector<NodeId> position(nodes.size(), -1);
  for (NodeId id = 0; id <= target; ++id) {
    const Node& node = nodes[static_cast<size_t>(id)];
    if (!live[static_cast<size_t>(id)]) continue;
    if (node.kind == NodeKind::dropout) {
      position[static_cast<size_t>(id)] = position[static_cast<size_t>(node.inputs[0])];
      continue;
    }
    PlanStep step;
    step.node = node;
    for (NodeId& input : step.node.inputs) input = position[static_cast<size_t>(input)];
    step.parameters = graph::constant_values(network, node);
    position[static_cast<size_t>(id)] = static_cast<NodeId>(steps.size());
    steps.push_back(std::move(step));
  }
  return steps;
}

bool has_averages(const PlanStep& step) {
  return step.parameters[2].defined() && step.parameters[3].defined();
}

void fold_batch_norm(std::vector<PlanStep>& steps) {
  for (size_t i = 1; i < steps.size(); ++i) {
    if (steps[i].node.kind != NodeKind::batch_norm || !has_averages(steps[i])) continue;
    const NodeId before = steps[i].node.inputs[0];
    PlanStep& layer = steps[static_cast<size_t>(before)];
    const bool conv = layer.node.kind == NodeKind::conv;
    const bool linear = graph::is_dense(layer.node);
    const auto [factor, addend] = graph::batch_norm_map(steps[i].node, steps[i].parameters);
    if ((conv || linear) && layer.readers == 1) {
      at::Tensor& weight = layer.parameters[0];
      at::Tensor& bias = layer.parameters[1];
      const auto type = weight.scalar_type();
      layer.before_norm = gain_of(weight, bias);
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
      steps[i].scale = true;
      steps[i].parameters = {factor.to(type).view(per_channel), addend.to(type).view(per_channel)};
    }
  }
}

}  // namespace

Gain gain_of(const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor rows = at::linalg_vector_norm(weight.flatten(1), 1, at::IntArrayRef{1});
  return {rows.max().item<double>(), bias.defined() ? bias.abs().max().item<double>() : 0};
}

std::vector<PlanStep> folded_steps(const Network& network, NodeId target) {
  std::vector<PlanStep> steps = plain_steps(network, target);
  for (PlanStep& step : steps) {
    for (at::Tensor& parameter : step.parameters) {
      if (parameter.defined()) parameter = parameter.clone();
    }
  }
  fold_batch_norm(steps);
  return steps;
}

std::vector<PlanStep> plain_steps(const Network& network, NodeId target) {
  std::vector<PlanStep> steps = live_steps(network, target);
  for (const PlanStep& step : steps) {
    for (const NodeId input : step.node.inputs) ++steps[static_cast<size_t>(input)].readers;
  }
  return steps;
}

}  // namespace harness
