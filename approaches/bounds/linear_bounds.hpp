#pragma once

#include <map>
#include <optional>

#include "approaches/bounds/relaxation.hpp"

namespace harness::bounds {

// R affine forms of the sources' values for each of N boxes: sum over sources of slope . x, plus offset.
struct AffineForms {
  std::map<NodeId, at::Tensor> slope;  // float64 (N, R, values of the source)
  at::Tensor offset;                   // float64 (N, R)
};

// Linear relaxation of a graph over boxes of its sources' values, backwards from the results to the sources
// (CROWN): activations between two lines, the intervals of their inputs from the same procedure, cut with
// interval arithmetic. Sound as kRoundoff* says. Memory: a node of m values whose interval needs relaxing
// takes N m times the widest node before it.
class LinearBounds {
 public:
  LinearBounds(const PartialGraph& graph, const Boxes& given, double roundoff = kRoundoffDouble);

  // Forms that nowhere in the boxes exceed coefficients . target; coefficients: (N or 1, R, target's values).
  AffineForms below(const at::Tensor& coefficients) const { return below(graph_.target(), coefficients); }
  // Their least values in the boxes: float64 (N, R).
  at::Tensor min_value(const AffineForms& forms) const;
  // Bounds of a node's value; without relaxation where intervals are as good.
  Box box(NodeId id) const;

 private:
  AffineForms below(NodeId from, const at::Tensor& coefficients) const;
  void through_affine(NodeId id, const at::Tensor& form, std::map<NodeId, at::Tensor>& forms,
                      at::Tensor& offset) const;
  void through_activation(NodeId id, const at::Tensor& form, std::map<NodeId, at::Tensor>& forms,
                          at::Tensor& offset) const;
  std::vector<Box> inputs_of(NodeId id) const;

  const PartialGraph& graph_;
  const double roundoff_;
  int64_t rows_ = 0;
  Boxes boxes_;
  std::map<NodeId, Lines> lines_;  // of activations
};

// The first operator that has no linear relaxation: operator, with its kind and name.
std::optional<Refusal> refuse_without_relaxation(const PartialGraph& graph);

}  // namespace harness::bounds
