#include "approaches/bounds/partial_graph.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "harness/core/error.hpp"
#include "harness/model/execute.hpp"
#include "harness/model/graph.hpp"

namespace harness::bounds {
namespace {

// A constant operand is an affine map but for c / x.
bool with_constant(const Node& node) {
  return node.inputs.size() == 1;
}

Node absolute(Node node) {
  if (auto* a = std::get_if<ArithmeticAttributes>(&node.attributes)) {
    a->scalar = std::abs(a->scalar);
    a->alpha = std::abs(a->alpha);
    if (node.kind == NodeKind::sub) node.kind = NodeKind::add;
  } else if (auto* pad = std::get_if<PadAttributes>(&node.attributes)) {
    pad->value = std::abs(pad->value);
  }
  return node;
}

}  // namespace

PartialGraph::PartialGraph(const Network& network, const std::set<NodeId>& sources, NodeId target)
    : sources_(sources), target_(target), nodes_(network.nodes()) {
  const auto known = [&](NodeId id) { return sources.count(id) > 0; };
  const graph::Marks needed = graph::needed_for(nodes_, {target}, known);
  for (NodeId id = 0; id <= target; ++id) {
    if (!needed[static_cast<size_t>(id)] || known(id)) continue;
    const Node& node = nodes_[static_cast<size_t>(id)];
    if (node.kind == NodeKind::input)
      interface_misuse("bounds: the target depends on more than the nodes given");
    order_.push_back(id);
    std::vector<at::Tensor>& values = parameters_[id] = graph::constant_values(network, node);
    for (at::Tensor& value : values) {
      if (value.defined()) value = value.to(at::kCPU, at::kDouble).clone();
    }
  }
}

at::Tensor PartialGraph::compute(NodeId id, const std::vector<at::Tensor>& inputs) const {
  return execute(node(id), inputs, parameters_.at(id));
}

at::Tensor PartialGraph::magnitude(NodeId id, const std::vector<at::Tensor>& absolute_inputs) const {
  std::vector<at::Tensor> parameters = parameters_.at(id);
  const bool norm = node(id).kind == NodeKind::batch_norm;
  for (size_t k = 0; k < parameters.size(); ++k) {
    if (parameters[k].defined()) parameters[k] = parameters[k].abs();
    if (norm && k == 2) parameters[k] = -parameters[k];  // the mean is subtracted
  }
  return execute(absolute(node(id)), absolute_inputs, parameters);
}

at::Tensor PartialGraph::value(std::map<NodeId, at::Tensor> given) const {
  const at::NoGradGuard no_grad;
  for (const NodeId id : order_) {
    std::vector<at::Tensor> inputs;
    for (const NodeId input : node(id).inputs) inputs.push_back(given.at(input));
    given[id] = compute(id, inputs);
  }
  return given.at(target_);
}

bool is_affine(const Node& node) {
  switch (node.kind) {
    case NodeKind::conv:
    case NodeKind::linear:
    case NodeKind::batch_norm:
    case NodeKind::avg_pool:
    case NodeKind::adaptive_avg_pool:
    case NodeKind::mean:
    case NodeKind::add:
    case NodeKind::sub:
      return true;
    case NodeKind::mul:
      return with_constant(node);
    case NodeKind::div:
      return with_constant(node) && !std::get<ArithmeticAttributes>(node.attributes).reversed;
    default:
      return is_selection(node);
  }
}

bool is_selection(const Node& node) {
  switch (node.kind) {
    case NodeKind::concat:
    case NodeKind::reshape:
    case NodeKind::permute:
    case NodeKind::slice:
    case NodeKind::pad:
    case NodeKind::dropout:
      return true;
    default:
      return false;
  }
}

}  // namespace harness::bounds
