#pragma once

#include <ATen/core/Tensor.h>

#include "approaches/routing/probes.hpp"
#include "harness/core/stop.hpp"

namespace harness::routing {

struct RoutingSettings {
  int64_t steps = 40;
  double rate = 0.009, shrink = 0.005;
  int64_t together = 0;     // inputs at once; 0: by the layer's size and the device
  bool until_full = false;  // ends once every entry is marked: no further input can add to the union
  Stop stop = {};           // checked before each step
};

struct RoutingCounts {
  at::Tensor marked;   // int32, shape of the kernel: by how many inputs an entry is marked
  int64_t inputs = 0;  // how many were routed; fewer than given only by `until_full`
};

// Which weights of a block's layer keep the probe at what it says of single inputs (approaches/docs/IN.md,
// Formulas: routing; in evaluation mode): each input has a routing tensor of its own that multiplies the
// kernel, pushed down step by step where the probe's cross-entropy to its own first answer does not hold it.
// `inputs` (n,C,H,W) on the network's device. An entry is marked where it is above its tensor's mean.
//
// What lies before the layer is computed once for each input; a chunk of inputs runs as one batch with a
// kernel each, as matrix products of the layer's unfolded input. On the CPU a step goes through the weights
// once: a part of the rows gets its gradient, its new factors and its share of the next output while the
// cache holds it. Parts follow from the layer's shape, so that no number depends on the threads.
RoutingCounts routing_counts(const Network& network, const ProbedBlock& block, const Probe& probe,
                             const at::Tensor& inputs, const RoutingSettings& settings);

// bool (entries): the entries that any input marked, which the published code keeps, or of these the `most`
// marked most often (of equals the one of smaller index). `counts`: one dimension.
at::Tensor marked(const at::Tensor& counts, int64_t maximum);

}  // namespace harness::routing
