#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "harness/model/network.hpp"

namespace harness::search {

// All that a network computes behind one node, for many values of that node on the same inputs.
class Suffix {
 public:
  Suffix(const Network& network, NodeId node);  // `network` must outlive it
  // Earlier nodes that are read behind `node` as well (residual and dense connections), ascending.
  const std::vector<NodeId>& skip_inputs() const { return skip_inputs_; }
  // Logits (K,N,classes) for K values of the node (K,N, its shape); `beside`: values (N,...) of beside().
  at::Tensor logits(const at::Tensor& values, const std::vector<at::Tensor>& skip_inputs) const;

 private:
  const Network& network_;
  NodeId node_;
  Cut cut_;
  std::vector<NodeId> skip_inputs_;
};

}  // namespace harness::search
