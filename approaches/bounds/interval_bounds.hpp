#pragma once

#include <map>
#include <optional>

#include "approaches/bounds/partial_graph.hpp"
#include "harness/approach/approach.hpp"

namespace harness::bounds {

// Minimum and maximum values: float64, CPU, (N, shape of the node), low <= high, finite.
struct Box {
  at::Tensor low, high;
  at::Tensor max_size() const;  // max(|low|, |high|)
};
using Boxes = std::map<NodeId, Box>;

// Unit roundoff of the arithmetic whose results the bounds are to contain. Bounds themselves are computed in
// float64 and widened outward by the standard error bound of every operation (n u for a sum of n terms), so
// they hold for exact arithmetic and for any order of summation with that roundoff.
inline constexpr double kRoundoffDouble = 0x1p-53;
inline constexpr double kRoundoffFloat = 0x1p-24;  // of the network as it runs

// Bounds of one node's value from bounds of its inputs. Element-wise exact but for rounding, apart from
// products and quotients of two nodes that depend on each other.
Box interval_step(const PartialGraph& graph, NodeId id, const std::vector<Box>& inputs, double roundoff);

// Bounds of every node of the graph, sources included: simple, sound, loose behind several dense layers.
Boxes interval_bounds(const PartialGraph& graph, const Boxes& given, double roundoff = kRoundoffDouble);

// The first node that has no interval bounds: operator, with its name. Only quotients by another node.
std::optional<Refusal> refuse_without_intervals(const PartialGraph& graph);

// Relative error of a value that node `id` computes, against its magnitude().
double rounding_factor(const PartialGraph& graph, NodeId id, double roundoff);

}  // namespace harness::bounds
