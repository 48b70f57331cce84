#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "harness/model/network.hpp"

namespace harness::bounds {

// Everything that is computed between some nodes and one node behind them, in float64 on the CPU: what
// bounds are computed on. Owns copies of the parameters, so that it keeps what it was made of.
class PartialGraph {
 public:
  // `sources`: nodes whose values are given. A misuse where the target depends on anything else.
  PartialGraph(const Network& network, const std::set<NodeId>& sources, NodeId target);

  const std::set<NodeId>& sources() const { return sources_; }
  NodeId target() const { return target_; }
  const std::vector<NodeId>& order() const { return order_; }  // nodes to compute, ascending; no sources
  const Node& node(NodeId id) const { return nodes_[static_cast<size_t>(id)]; }
  const std::vector<at::Tensor>& parameters(NodeId id) const { return parameters_.at(id); }

  // One node of values (N, shape), float64.
  at::Tensor compute(NodeId id, const std::vector<at::Tensor>& inputs) const;
  // The node with all its weights and constants replaced by their absolute values, for affine nodes: of
  // absolute inputs it gives the sum of absolute terms that the value is made of.
  at::Tensor magnitude(NodeId id, const std::vector<at::Tensor>& absolute_inputs) const;
  // The target's value.
  at::Tensor value(std::map<NodeId, at::Tensor> given) const;

 private:
  std::set<NodeId> sources_;
  NodeId target_;
  std::vector<Node> nodes_;
  std::vector<NodeId> order_;
  std::map<NodeId, std::vector<at::Tensor>> parameters_;
};

// An affine map of its inputs whatever they are: dense, convolution, batch norm, averages, sums, constants.
bool is_affine(const Node& node);
// An affine node that only moves values about, without any arithmetic.
bool is_selection(const Node& node);

}  // namespace harness::bounds
