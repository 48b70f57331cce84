#include "approaches/bounds/neuron_site.hpp"

#include <algorithm>

#include "approaches/bounds/linear_bounds.hpp"
#include "approaches/dense_layers.hpp"
#include "harness/model/graph.hpp"

namespace harness::bounds {
namespace {

// Dense nodes of the head that the logits depend on alone, in the order of the graph.
std::vector<NodeId> nodes_of_head(const Network& network) {
  const graph::Marks bypassed = graph::bypassed_before(network.nodes(), network.logits_node());
  std::vector<NodeId> head;
  for (NodeId id = 0; id <= network.logits_node(); ++id) {
    const Node& node = network.nodes()[static_cast<size_t>(id)];
    if (node.shape.size() != 1) head.clear();
    if (graph::is_dense(node) && !bypassed[static_cast<size_t>(id)]) head.push_back(id);
  }
  return head;
}

std::optional<TargetLayer> target_at(const Network& network, NodeId id) {
  for (const TargetLayer& layer : dense_layers(network)) {
    if (layer.node == id) return layer;
  }
  return std::nullopt;
}

Refusal structure(const std::string& text) {
  return {"structure", text};
}

// The dense layer behind `id`, or why there is none.
std::variant<TargetLayer, Refusal> next_layer(const Network& network, NodeId id) {
  const std::string& from = network.nodes()[static_cast<size_t>(id)].name;
  while (true) {
    const std::vector<NodeId> readers = graph::readers_of(network.nodes(), id);
    if (readers.size() != 1)
      return structure("the output of " + from + " is read by " + std::to_string(readers.size()) + " nodes");
    id = readers[0];
    const Node& node = network.nodes()[static_cast<size_t>(id)];
    if (node.kind == NodeKind::dropout) continue;
    if (node.kind != NodeKind::linear) {
      return structure(from + " is followed by " + to_text(node.kind) + " (" + node.name +
                       "), not by a dense layer");
    }
    const auto layer = target_at(network, id);
    if (!layer) return structure("the weights of " + node.name + " are not its own");
    return *layer;
  }
}

bool is_vgg_type(const Network& network, const std::vector<NodeId>& head) {
  if (head.size() != 3) return false;
  const std::vector<Node>& nodes = network.nodes();
  for (const NodeId id : {head[0], head[1]}) {
    const auto reader = graph::only_reader(nodes, id);
    if (!reader || nodes[static_cast<size_t>(*reader)].kind != NodeKind::relu) return false;
  }
  return nodes[static_cast<size_t>(head[0])].shape == nodes[static_cast<size_t>(head[1])].shape;
}

}  // namespace

std::variant<NeuronSite, Refusal> neuron_site(const Network& network, int64_t check_layer) {
  if (!network.importable()) return Refusal{"operator", network.report().unknown_operator};
  const std::vector<NodeId> head = nodes_of_head(network);
  const auto count = static_cast<int64_t>(head.size());
  if (count <= check_layer) {
    std::string names;
    for (const NodeId id : head)
      names += (names.empty() ? " (" : ", ") + network.nodes()[static_cast<size_t>(id)].name;
    return structure("the head has " + std::to_string(count) +
                     (count == 1 ? " dense layer" : " dense layers in a row") + names +
                     (names.empty() ? "" : ")") + "; check_layer " + std::to_string(check_layer) + " needs " +
                     std::to_string(check_layer + 1));
  }
  NeuronSite site;
  site.vgg_type = is_vgg_type(network, head);
  if (check_layer == 0) {
    const auto first = target_at(network, head[0]);
    const Node& node = network.nodes()[static_cast<size_t>(head[0])];
    if (!first) return structure("the weights of " + node.name + " are not its own");
    if (!graph::only_reader(network.nodes(), first->input))
      return structure("the features that " + node.name + " reads have other readers");
    site.features = site.values = first->input;
    site.next = *first;
  } else {
    site.layer = target_at(network, head[static_cast<size_t>(check_layer - 1)]);
    if (!site.layer) {
      return structure("the weights of " +
                       network.nodes()[static_cast<size_t>(head[static_cast<size_t>(check_layer - 1)])].name +
                       " are not its own");
    }
    site.features = site.layer->input;
    site.values = site.layer->behind;
    const auto next = next_layer(network, site.values);
    if (const auto* refusal = std::get_if<Refusal>(&next)) return *refusal;
    site.next = std::get<TargetLayer>(next);
  }
  const PartialGraph tail(network, {site.values}, network.logits_node());
  if (const auto refusal = refuse_without_relaxation(tail)) return *refusal;
  return site;
}

}  // namespace harness::bounds
