#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "harness/model/node.hpp"

namespace harness {

// How batch norm and dropout behave during one pass.
struct PassMode {
  bool training = false;
  uint64_t seed = 0;  // of dropout masks, training only; each node has a stream of its own by its name
};

// Computes one node by its plain ATen operator. `inputs` and `parameters` follow the node's own order;
// an absent parameter is an undefined tensor. Running averages are updated in place when training.
at::Tensor execute(const Node& node, const std::vector<at::Tensor>& inputs,
                   const std::vector<at::Tensor>& parameters, const PassMode& mode = {});

// Spatial dimensions of a node over (N,C,...) tensors.
int64_t spatial_dimensions(const Node& node);

}  // namespace harness
