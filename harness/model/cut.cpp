#include <ATen/ATen.h>

#include <set>

#include "harness/core/error.hpp"
#include "harness/model/implementation.hpp"

namespace harness {
namespace {

// K candidate weights of a linear node on shared inputs x (N,...,in): (K,N,...,out).
at::Tensor stacked_linear(const at::Tensor& x, const at::Tensor& weights, const at::Tensor& bias) {
  std::vector<int64_t> shape = {weights.size(0)};
  shape.insert(shape.end(), static_cast<size_t>(x.dim()) - 2, 1);
  shape.insert(shape.end(), {weights.size(2), weights.size(1)});
  const at::Tensor product = at::matmul(x.unsqueeze(0), weights.transpose(1, 2).reshape(shape));
  return bias.defined() ? product + bias : product;
}

// K candidate weights of a conv node on shared inputs, as one convolution with K times the channels.
at::Tensor stacked_conv(const Node& node, const at::Tensor& x, const at::Tensor& weights,
                        const at::Tensor& bias) {
  const auto& a = std::get<ConvAttributes>(node.attributes);
  const int64_t count = weights.size(0), channels = weights.size(1), per_group = channels / a.groups;
  std::vector<int64_t> kernel = weights.sizes().slice(2).vec();  // C/groups and window
  std::vector<int64_t> grouped = {count, a.groups, per_group};
  grouped.insert(grouped.end(), kernel.begin(), kernel.end());
  std::vector<int64_t> flat = {count * channels};
  flat.insert(flat.end(), kernel.begin(), kernel.end());
  // Group-major, so that each group's inputs meet the candidates of that group.
  const at::Tensor filters = weights.reshape(grouped).transpose(0, 1).reshape(flat);
  const std::vector<int64_t> no_output_padding(a.stride.size(), 0);
  at::Tensor y =
      at::convolution(x, filters, {}, a.stride, a.padding, a.dilation, false, no_output_padding, a.groups);
  std::vector<int64_t> apart = {x.size(0), a.groups, count, per_group};
  const auto window = y.sizes().slice(2);
  apart.insert(apart.end(), window.begin(), window.end());
  y = y.reshape(apart).permute([&] {
    std::vector<int64_t> order = {2, 0, 1, 3};
    for (int64_t dim = 4; dim < static_cast<int64_t>(apart.size()); ++dim) order.push_back(dim);
    return order;
  }());
  std::vector<int64_t> shape = {count, x.size(0), channels};
  shape.insert(shape.end(), window.begin(), window.end());
  y = y.reshape(shape);
  if (!bias.defined()) return y;
  std::vector<int64_t> broadcast = {1, 1, channels};
  broadcast.insert(broadcast.end(), window.size(), 1);
  return y + bias.reshape(broadcast);
}

}  // namespace

Cut Network::cut_before(NodeId first) const {
  self_->need_graph("cut_before()");
  std::set<NodeId> live;
  for (NodeId id = first; id < static_cast<NodeId>(self_->nodes.size()); ++id) {
    for (const NodeId input : self_->nodes[id].inputs) {
      if (input < first) live.insert(input);
    }
  }
  return {first, {live.begin(), live.end()}};
}

std::vector<at::Tensor> Network::prefix(const Cut& cut, const at::Tensor& x) const {
  at::NoGradGuard no_grad;
  return activations(x, cut.live);
}

at::Tensor Network::suffix(const Cut& cut, const std::vector<at::Tensor>& live,
                           const std::map<ParameterId, at::Tensor>& overrides) const {
  std::map<NodeId, at::Tensor> known;
  for (size_t i = 0; i < cut.live.size(); ++i) known[cut.live[i]] = live.at(i);
  return self_->evaluate({self_->logits}, std::move(known), overrides)[0];
}

at::Tensor Network::candidate_logits(const Cut& cut, const std::vector<at::Tensor>& live,
                                     ParameterId parameter, const at::Tensor& candidates) const {
  at::NoGradGuard no_grad;
  const Node& node = self_->nodes.at(cut.first);
  const bool layer = node.kind == NodeKind::linear || node.kind == NodeKind::conv;
  if (!layer || (node.parameters[0] != parameter && node.parameters[1] != parameter)) {
    interface_misuse("candidate_logits for a parameter that is not of the cut's linear or conv node");
  }
  const auto value_of = [&](NodeId id) -> const at::Tensor& {
    return live.at(std::find(cut.live.begin(), cut.live.end(), id) - cut.live.begin());
  };
  const at::Tensor& x = value_of(node.inputs[0]);
  const int64_t count = candidates.size(0), images = x.size(0);
  const ParameterId bias_id = node.parameters[1];
  const at::Tensor bias = bias_id < 0 ? at::Tensor() : self_->parameters[bias_id].value;
  at::Tensor y;
  if (parameter == bias_id) {
    const at::Tensor base = execute(node, {x}, {self_->parameters[node.parameters[0]].value, at::Tensor()});
    std::vector<int64_t> shape(static_cast<size_t>(base.dim()) + 1, 1);
    shape[0] = count;
    shape[node.kind == NodeKind::conv ? 2 : shape.size() - 1] = candidates.size(1);
    y = base.unsqueeze(0) + candidates.reshape(shape);
  } else if (node.kind == NodeKind::linear) {
    y = stacked_linear(x, candidates, bias);
  } else {
    y = stacked_conv(node, x, candidates, bias);
  }
  // The rest treats images apart, so candidates and images make one batch.
  std::map<NodeId, at::Tensor> known = {{cut.first, y.flatten(0, 1)}};
  std::set<NodeId> read_later;
  for (size_t id = static_cast<size_t>(cut.first) + 1; id < self_->nodes.size(); ++id) {
    read_later.insert(self_->nodes[id].inputs.begin(), self_->nodes[id].inputs.end());
  }
  for (const NodeId id : cut.live) {
    if (read_later.count(id) == 0) continue;
    std::vector<int64_t> shape = value_of(id).sizes().vec();
    shape.insert(shape.begin(), count);
    known[id] = value_of(id).unsqueeze(0).expand(shape).flatten(0, 1);
  }
  return self_->evaluate({self_->logits}, std::move(known))[0].unflatten(0, {count, images});
}

}  // namespace harness
