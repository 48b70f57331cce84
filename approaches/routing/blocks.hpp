#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <vector>

#include "harness/approach/approach.hpp"
#include "harness/model/execute.hpp"

namespace harness::routing {

// A part of a network that one probe reads, and the layer of it whose weights may be repaired
// (approaches/docs/IN.md, Steps in this project, 2).
struct ProbedBlock {
  NodeId layer = 0;         // ungrouped convolution or dense layer
  NodeId output = 0;        // what the probe reads, (C,H,W) or (features)
  ParameterId weight = -1;  // of the layer
  ParameterId bias = -1;    // -1: it has none
  int probe_depth = 0;      // 2 or 1: convolutional probe; 0: a single linear layer
};

// Convolutional stages (all of one resolution, with the pooling that ends it; in networks with skip
// connections only stages that have some), then hidden dense layers with what normalises and activates them;
// in the order of the graph. The layer is the stage's last convolution, of those with a window larger than
// one where there are any. The final classifier is no block. Empty for models that cannot be imported.
std::vector<ProbedBlock> probed_blocks(const Network& network);

// Why there is nothing to probe: operator, structure, no_faults.
std::optional<Refusal> refuse_without_blocks(const FixRequest& request);

// The nodes up to `target` whose values depend on node `from`, as far as `target` depends on them, and all
// that these read from elsewhere.
struct Segment {
  std::vector<NodeId> nodes;  // ascending, the last one is `target`; without `from`
  std::vector<NodeId> live;   // ascending; what they read of other nodes
};
Segment segment_between(const Network& network, NodeId from, NodeId target);

// Value of `target`, computed from `known` (others are not computed again) with autograd as grad mode and
// parameters have it. Batch norm in train mode updates the network's running averages.
at::Tensor evaluate_part(const Network& network, NodeId target, std::map<NodeId, at::Tensor> known,
                         const PassMode& mode = {});
// The same; all values that were computed are known then.
at::Tensor evaluate_onto(const Network& network, NodeId target, std::map<NodeId, at::Tensor>& known,
                         const PassMode& mode = {});

}  // namespace harness::routing
