#include "approaches/search/suffix.hpp"

#include <ATen/ATen.h>

namespace harness::search {

Suffix::Suffix(const Network& network, NodeId node)
    : network_(network), node_(node), cut_(network.cut_before(node + 1)) {
  for (const NodeId id : cut_.live) {
    if (id != node_) skip_inputs_.push_back(id);
  }
}

at::Tensor Suffix::logits(const at::Tensor& values, const std::vector<at::Tensor>& skip_inputs) const {
  if (node_ == network_.logits_node()) return values;
  const int64_t count = values.size(0), images = values.size(1);
  std::vector<at::Tensor> live;  // the rest treats images apart, so values and images make one batch
  size_t next = 0;
  for (const NodeId id : cut_.live) {
    if (id == node_) {
      live.push_back(values.flatten(0, 1));
      continue;
    }
    const at::Tensor& value = skip_inputs.at(next++);
    std::vector<int64_t> shape = value.sizes().vec();
    shape.insert(shape.begin(), count);
    live.push_back(value.unsqueeze(0).expand(shape).flatten(0, 1));
  }
  return network_.suffix(cut_, live).unflatten(0, {count, images});
}

}  // namespace harness::search
