#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <vector>

#include "harness/model/network.hpp"

// Questions about the nodes of an imported network (Network::nodes()): who reads a value, what a value
// depends on, what a node's parameters are. Pure functions of the graph, on any device. "Marks" are one char
// a node, 1 or 0, so that they can be combined without copies of a std::vector<bool>.
namespace harness::graph {

using Nodes = std::vector<Node>;
using Marks = std::vector<char>;

// The nodes that read the value of `id`, ascending, each once.
std::vector<NodeId> readers_of(const Nodes& nodes, NodeId id);
// The one node that reads it, and reads it once; nothing where it is read by none, or more than once.
std::optional<NodeId> only_reader(const Nodes& nodes, NodeId id);
// By node: how often its value is read, x + x counting twice. With `among`, by marked nodes alone.
std::vector<int> reader_counts(const Nodes& nodes, const Marks& among = {});
// The activation that alone reads `id`; `id` itself where there is none.
NodeId activation_behind(const Nodes& nodes, NodeId id);

// What has to be there for the values of `targets`: themselves, and all they depend on. What `known` nodes
// depend on is not needed for their sake.
Marks needed_for(const Nodes& nodes, const std::vector<NodeId>& targets,
                 const std::function<bool(NodeId)>& known = {});
// The marked nodes and all that depend on them.
Marks dependents_of(const Nodes& nodes, Marks sources);
// Nodes that a connection on the way to `target` goes past: it comes from before them and ends behind them.
// All other nodes before the target that it needs form a chain that its whole value goes through.
Marks bypassed_before(const Nodes& nodes, NodeId target);

bool is_dense(const Node& node);                  // linear, on (N, features)
bool is_ungrouped_convolution(const Node& node);  // of any number of spatial dimensions
// A sum of two values of one shape, without a factor. `node_of`: the node of an id among its inputs.
bool is_plain_sum(const Node& node, const std::function<const Node&(NodeId)>& node_of);
bool has_kind(const Nodes& nodes, NodeKind kind);

// Numbers in a node's value, a single image's; the product of any sizes.
int64_t value_count(const std::vector<int64_t>& shape);
// Of the largest value among the nodes from `first` on.
int64_t max_value_count(const Nodes& nodes, NodeId first = 0);
// Of all nodes' values together.
int64_t total_value_count(const Nodes& nodes);

// The parameter of a role (NodeKind lists them); -1 where the node has none.
ParameterId parameter_in(const Node& node, size_t role);
// Its value, as a view of the network's own; undefined for -1. Autograd sees the parameter itself.
at::Tensor parameter_value(const Network& network, ParameterId id);
// The same as a constant, without history.
at::Tensor constant_value(const Network& network, ParameterId id);
// All parameters of a node, in the order of its roles, as constants.
std::vector<at::Tensor> constant_values(const Network& network, const Node& node);
// By parameter: how often nodes read it.
std::vector<int> parameter_reader_counts(const Network& network);
// Numbers of the network's weights: the type that inputs are converted to.
at::ScalarType number_type(const Network& network);

// Batch norm in evaluation mode as factor * x + addend, each (channels), in double precision on the device of
// the node's parameters, which have to include both running averages.
struct ChannelMap {
  at::Tensor factor, addend;
};
ChannelMap batch_norm_map(const Node& node, const std::vector<at::Tensor>& parameters);

}  // namespace harness::graph
