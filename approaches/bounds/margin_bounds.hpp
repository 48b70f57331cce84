#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>

#include "approaches/bounds/linear_bounds.hpp"

namespace harness::bounds {

// What VeRe needs of bounds (approaches/docs/VERE.md, Formulas): how far the margin z_label - z_predicted can
// fall while one unit of a layer moves through an interval and all others keep their values.
struct MarginQuestion {
  at::Tensor values;             // float64 (N, V), CPU: the layer's output, activation included
  at::Tensor edges;              // float64 (V, T + 1), CPU, ascending: T adjacent intervals for each unit
  at::Tensor labels, predicted;  // int64 (N), CPU
};

// A tail of dense, ReLU, dense (dropout aside) is bounded in closed form: units x inputs x intervals x width
// operations. Others go through LinearBounds, which takes about the width of the tail's layers times as long.
class MarginBounds {
 public:
  // `layer`: flat node that the logits depend on alone. Keeps copies of the weights behind it. `closed_form`
  // false: general relaxation also where the tail is dense, ReLU, dense.
  MarginBounds(const Network& network, NodeId layer, bool closed_form = true);
  bool closed_form() const { return closed_form_; }
  // float64 (N, classes), from values of the layer (N, V).
  at::Tensor logits(const at::Tensor& values) const { return graph_.value({{layer_, values}}); }

  // float64 (V, N, T, 2): the linear lower bound that holds in the whole interval, at its two ends. Sound for
  // the exact value of the network in float64. The same for any number of threads. Nothing when `go_on`,
  // polled between slabs, says no.
  std::optional<at::Tensor> ends(const MarginQuestion& question,
                                 const std::function<bool()>& go_on = nullptr) const;

 private:
  std::optional<at::Tensor> by_closed_form(const MarginQuestion& question,
                                           const std::function<bool()>& go_on) const;
  std::optional<at::Tensor> by_relaxation(const MarginQuestion& question,
                                          const std::function<bool()>& go_on) const;

  PartialGraph graph_;
  NodeId layer_;
  int64_t classes_, width_;  // width: of the widest node
  bool closed_form_;
  std::vector<NodeId> dense_;  // with a closed form: the two dense nodes
};

}  // namespace harness::bounds
