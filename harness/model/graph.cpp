#include "harness/model/graph.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace harness::graph {

std::vector<NodeId> readers_of(const Nodes& nodes, NodeId id) {
  std::vector<NodeId> readers;
  for (size_t n = static_cast<size_t>(id) + 1; n < nodes.size(); ++n) {
    if (std::ranges::count(nodes[n].inputs, id) > 0) readers.push_back(static_cast<NodeId>(n));
  }
  return readers;
}

std::optional<NodeId> only_reader(const Nodes& nodes, NodeId id) {
  const std::vector<NodeId> readers = readers_of(nodes, id);
  if (readers.size() != 1) return std::nullopt;
  if (std::ranges::count(nodes[static_cast<size_t>(readers[0])].inputs, id) != 1) return std::nullopt;
  return readers[0];
}

std::vector<int> reader_counts(const Nodes& nodes, const Marks& among) {
  std::vector<int> counts(nodes.size(), 0);
  for (size_t n = 0; n < nodes.size(); ++n) {
    if (!among.empty() && !among[n]) continue;
    for (const NodeId input : nodes[n].inputs) ++counts[static_cast<size_t>(input)];
  }
  return counts;
}

NodeId activation_behind(const Nodes& nodes, NodeId id) {
  const auto reader = only_reader(nodes, id);
  return reader && is_activation(nodes[static_cast<size_t>(*reader)].kind) ? *reader : id;
}

Marks needed_for(const Nodes& nodes, const std::vector<NodeId>& targets,
                 const std::function<bool(NodeId)>& known) {
  Marks needed(nodes.size(), 0);
  for (const NodeId target : targets) needed[static_cast<size_t>(target)] = 1;
  for (size_t n = nodes.size(); n-- > 0;) {
    if (!needed[n] || (known && known(static_cast<NodeId>(n)))) continue;
    for (const NodeId input : nodes[n].inputs) needed[static_cast<size_t>(input)] = 1;
  }
  return needed;
}

Marks dependents_of(const Nodes& nodes, Marks sources) {
  for (size_t n = 0; n < nodes.size(); ++n) {
    for (const NodeId input : nodes[n].inputs) sources[n] |= sources[static_cast<size_t>(input)];
  }
  return sources;
}

Marks bypassed_before(const Nodes& nodes, NodeId target) {
  const Marks needed = needed_for(nodes, {target});
  Marks bypassed(nodes.size(), 0);
  for (NodeId id = 0; id <= target; ++id) {
    if (!needed[static_cast<size_t>(id)]) continue;
    for (const NodeId input : nodes[static_cast<size_t>(id)].inputs) {
      std::fill(bypassed.begin() + input + 1, bypassed.begin() + id, 1);
    }
  }
  return bypassed;
}

bool is_dense(const Node& node) {
  return node.kind == NodeKind::linear && node.shape.size() == 1;
}

bool is_ungrouped_convolution(const Node& node) {
  return node.kind == NodeKind::conv && std::get<ConvAttributes>(node.attributes).groups == 1;
}

bool is_plain_sum(const Node& node, const std::function<const Node&(NodeId)>& node_of) {
  if (node.kind != NodeKind::add || node.inputs.size() != 2) return false;
  const auto same_shape = [&](NodeId id) { return node_of(id).shape == node.shape; };
  return std::get<ArithmeticAttributes>(node.attributes).alpha == 1 &&
         std::ranges::all_of(node.inputs, same_shape);
}

bool has_kind(const Nodes& nodes, NodeKind kind) {
  return std::ranges::any_of(nodes, [&](const Node& node) { return node.kind == kind; });
}

int64_t value_count(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

int64_t max_value_count(const Nodes& nodes, NodeId first) {
  int64_t count = 1;
  for (size_t n = static_cast<size_t>(first); n < nodes.size(); ++n) {
    count = std::max(count, value_count(nodes[n].shape));
  }
  return count;
}

int64_t total_value_count(const Nodes& nodes) {
  int64_t count = 0;
  for (const Node& node : nodes) count += value_count(node.shape);
  return count;
}

ParameterId parameter_in(const Node& node, size_t role) {
  return role < node.parameters.size() ? node.parameters[role] : -1;
}

at::Tensor parameter_value(const Network& network, ParameterId id) {
  return id < 0 ? at::Tensor() : network.parameters()[static_cast<size_t>(id)].value;
}

at::Tensor constant_value(const Network& network, ParameterId id) {
  return id < 0 ? at::Tensor() : network.parameters()[static_cast<size_t>(id)].value.detach();
}

std::vector<at::Tensor> constant_values(const Network& network, const Node& node) {
  std::vector<at::Tensor> values;
  for (const ParameterId id : node.parameters) values.push_back(constant_value(network, id));
  return values;
}

std::vector<int> parameter_reader_counts(const Network& network) {
  std::vector<int> counts(network.parameters().size(), 0);
  for (const Node& node : network.nodes()) {
    for (const ParameterId id : node.parameters) {
      if (id >= 0) ++counts[static_cast<size_t>(id)];
    }
  }
  return counts;
}

at::ScalarType number_type(const Network& network) {
  for (const Parameter& parameter : network.parameters()) {
    if (parameter.trainable) return parameter.value.scalar_type();
  }
  return at::kFloat;
}

ChannelMap batch_norm_map(const Node& node, const std::vector<at::Tensor>& parameters) {
  const double epsilon = std::get<BatchNormAttributes>(node.attributes).epsilon;
  at::Tensor factor = parameters[3].to(at::kDouble).add(epsilon).rsqrt();
  if (parameters[0].defined()) factor = factor * parameters[0].to(at::kDouble);
  at::Tensor addend = -parameters[2].to(at::kDouble) * factor;
  if (parameters[1].defined()) addend = addend + parameters[1].to(at::kDouble);
  return {factor, addend};
}

}  // namespace harness::graph
