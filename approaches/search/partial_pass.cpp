#include "approaches/search/partial_pass.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "harness/core/error.hpp"
#include "harness/model/execute.hpp"
#include "harness/model/graph.hpp"

namespace harness::search {
namespace {

bool same_channels(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.equal(b);
}

// Units of the flattened value that channels of (channels, inner) become.
at::Tensor flattened(const at::Tensor& channels, int64_t inner) {
  return (channels.unsqueeze(1) * inner + at::arange(inner, channels.options()).unsqueeze(0)).flatten();
}

bool pools_channels_apart(const Node& node) {
  switch (node.kind) {
    case NodeKind::max_pool:
    case NodeKind::avg_pool:
      return std::get<PoolAttributes>(node.attributes).kernel.size() + 1 == node.shape.size();
    case NodeKind::adaptive_max_pool:
    case NodeKind::adaptive_avg_pool:
      return std::get<DimsAttributes>(node.attributes).dims.size() + 1 == node.shape.size();
    case NodeKind::mean: {
      const auto& dims = std::get<DimsAttributes>(node.attributes).dims;
      return std::find(dims.begin(), dims.end(), 1) == dims.end();
    }
    default:
      return false;
  }
}

}  // namespace

PartialPass::PartialPass(const Network& network, const std::vector<WeightRef>& weights, bool narrow)
    : network_(&network) {
  std::set<NodeId> nodes;
  for (const WeightRef& weight : weights) nodes.insert(network.node_of(weight.parameter));
  if (nodes.empty() || *nodes.begin() < 0) interface_misuse("a pass for weights that no node reads");
  const std::vector<NodeId> touched(nodes.begin(), nodes.end());
  if (narrow) narrow_from(touched[0], touched, weights);
  if (first_.id < 0) finish(touched[0]);
  std::set<NodeId> reads;
  for (const Need& one : needs_) reads.insert(one.id);
  reads_.assign(reads.begin(), reads.end());
}

size_t PartialPass::need(NodeId id, const at::Tensor& channels) {
  for (size_t k = 0; k < needs_.size(); ++k) {
    if (needs_[k].met || needs_[k].id != id || needs_[k].channels.defined() != channels.defined()) continue;
    if (!channels.defined() || same_channels(needs_[k].channels, channels)) return k;
  }
  needs_.push_back({.id = id, .channels = channels, .met = false});
  return needs_.size() - 1;
}

bool PartialPass::start(NodeId id, const std::vector<WeightRef>& weights) {
  const Node& node = network_->nodes()[static_cast<size_t>(id)];
  const bool conv = graph::is_ungrouped_convolution(node);
  if (!conv && !graph::is_dense(node)) return false;
  const ParameterId kernel_id = node.parameters[0];
  const at::Tensor kernel = graph::constant_value(*network_, kernel_id);
  const int64_t width = kernel[0].numel();
  std::vector<int64_t> indices, rows;
  for (const WeightRef& weight : weights) {
    if (network_->node_of(weight.parameter) != id) continue;
    if (weight.parameter != kernel_id) return false;  // a bias
    indices.push_back(weight.index);
    rows.push_back(weight.index / width);
  }
  std::sort(indices.begin(), indices.end());
  indices.erase(std::unique(indices.begin(), indices.end()), indices.end());
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  // beyond that the plain layer is faster, and what the weights meet takes more memory than the input
  if (2 * static_cast<int64_t>(indices.size()) > width) return false;
  const auto count = static_cast<int64_t>(indices.size());
  at::Tensor spread = at::zeros({static_cast<int64_t>(rows.size()), count});
  for (int64_t w = 0; w < count; ++w) {
    const auto row = std::lower_bound(rows.begin(), rows.end(), indices[static_cast<size_t>(w)] / width);
    spread[row - rows.begin()][w] = 1;
  }
  const auto on_device = [&](const at::Tensor& tensor) { return tensor.to(network_->device()); };
  first_ = {.id = id,
            .kernel = kernel_id,
            .indices = on_device(at::tensor(indices, at::kLong)),
            .own = {},
            .spread = on_device(spread),
            .one_hot = {},
            .columns = {},
            .input = 0,
            .clean = 0};
  first_.own = kernel.flatten().index_select(0, first_.indices);
  const at::Tensor places = first_.indices.remainder(width);
  if (conv) {
    std::vector<int64_t> shape = kernel.sizes().vec();
    shape[0] = count;
    first_.one_hot =
        at::zeros({count, width}, kernel.options()).scatter_(1, places.unsqueeze(1), 1).view(shape);
  } else {
    first_.columns = places;
  }
  channels_[id] = on_device(at::tensor(rows, at::kLong));
  first_.input = needs_.size();
  needs_.push_back({.id = node.inputs[0], .channels = {}, .met = true});
  first_.clean = need(id, channels_.at(id));
  return true;
}

void PartialPass::narrow_from(NodeId first, const std::vector<NodeId>& touched,
                              const std::vector<WeightRef>& weights) {
  if (!start(first, weights)) return;
  const NodeId last = network_->logits_node();
  for (NodeId id = first + 1; id <= last; ++id) {
    const auto& inputs = network_->nodes()[static_cast<size_t>(id)].inputs;
    const bool own = std::binary_search(touched.begin(), touched.end(), id);
    const bool changes =
        std::any_of(inputs.begin(), inputs.end(), [&](NodeId input) { return channels_.count(input) > 0; });
    if (!own && (!changes || pass(id))) continue;
    finish(!own && absorb(id) ? id + 1 : id);
    return;
  }
  finish(last + 1);
}

bool PartialPass::pass(NodeId id) {
  const Node& node = network_->nodes()[static_cast<size_t>(id)];
  at::Tensor channels;
  for (const NodeId input : node.inputs) {
    const auto found = channels_.find(input);
    if (found == channels_.end()) continue;
    if (channels.defined() && !same_channels(channels, found->second)) return false;
    channels = found->second;
  }
  Step step{id, {}, channels};
  const auto& inner = network_->nodes()[static_cast<size_t>(node.inputs[0])].shape;
  switch (node.kind) {
    case NodeKind::add:
    case NodeKind::sub:
    case NodeKind::mul:
    case NodeKind::div:
      if (!node.parameters.empty()) return false;  // a constant tensor may lie along any dimension
      for (const NodeId input : node.inputs) {
        if (network_->nodes()[static_cast<size_t>(input)].shape != node.shape) return false;
      }
      break;
    case NodeKind::reshape:
      if (node.shape.size() != 1) return false;
      step.channels = flattened(channels, graph::value_count(inner) / inner[0]);
      break;
    case NodeKind::batch_norm:
    case NodeKind::dropout:
      break;
    default:
      if (!is_activation(node.kind) && !pools_channels_apart(node)) return false;
  }
  for (const NodeId input : node.inputs) {
    step.clean.push_back(channels_.count(input) > 0 ? kChanged : need(input, channels));
  }
  channels_[id] = step.channels;
  steps_.push_back(std::move(step));
  return true;
}

bool PartialPass::absorb(NodeId id) {
  const Node& node = network_->nodes()[static_cast<size_t>(id)];
  if (!graph::is_ungrouped_convolution(node) && !graph::is_dense(node)) return false;
  const at::Tensor channels = channels_.at(node.inputs[0]);
  absorbed_kernel_ = graph::constant_value(*network_, node.parameters[0]).index_select(1, channels);
  absorbed_clean_ = need(id, {});
  steps_.push_back({id, {need(node.inputs[0], channels)}, {}});
  channels_[id] = at::Tensor();
  return true;
}

void PartialPass::finish(NodeId end) {
  rest_ = network_->cut_before(end);
  if (end > network_->logits_node()) rest_.live = {network_->logits_node()};
  for (const NodeId id : rest_.live) {
    const auto found = channels_.find(id);
    const bool changed = found != channels_.end();
    // what changes as a whole replaces the clean value, which nobody reads then
    const bool whole = changed && !found->second.defined();
    live_.push_back({whole ? kChanged : need(id, {}), changed});
  }
}

int64_t PartialPass::values_per_input() const {
  int64_t values = 0;
  for (const Need& one : needs_) {
    const auto& shape = network_->nodes()[static_cast<size_t>(one.id)].shape;
    if (one.met) {
      const auto& own = network_->nodes()[static_cast<size_t>(first_.id)].shape;
      values += graph::value_count(own) / own[0] * first_.indices.numel();
    } else {
      const int64_t some = one.channels.defined() ? one.channels.numel() : shape[0];
      values += graph::value_count(shape) / shape[0] * some;
    }
  }
  return values;
}

// What each touched weight of the first layer meets: (n, weights, positions), or (n, weights).
at::Tensor PartialPass::met(const at::Tensor& input) const {
  if (first_.columns.defined()) return input.index_select(1, first_.columns);
  const Node& node = network_->nodes()[static_cast<size_t>(first_.id)];
  return execute(node, {input}, {first_.one_hot, at::Tensor()}).flatten(2).contiguous();
}

std::vector<at::Tensor> PartialPass::prepare(const std::vector<at::Tensor>& clean) const {
  std::vector<at::Tensor> prepared;
  for (const Need& one : needs_) {
    const auto place = std::lower_bound(reads_.begin(), reads_.end(), one.id) - reads_.begin();
    const at::Tensor& value = clean.at(static_cast<size_t>(place));
    if (one.met) {
      prepared.push_back(met(value));
    } else {
      prepared.push_back(one.channels.defined() ? value.index_select(1, one.channels) : value);
    }
  }
  return prepared;
}

at::Tensor PartialPass::touched_channels(const std::vector<at::Tensor>& prepared,
                                         const std::map<ParameterId, at::Tensor>& kernels) const {
  const at::Tensor change =
      kernels.at(first_.kernel).flatten().index_select(0, first_.indices).sub_(first_.own).mul(first_.spread);
  const at::Tensor& met = prepared[first_.input];
  const at::Tensor& clean = prepared[first_.clean];
  if (met.dim() == 2) return at::addmm(clean, met, change.t());
  const at::Tensor moved =
      at::baddbmm(clean.flatten(2), change.unsqueeze(0).expand({met.size(0), -1, -1}), met);
  return moved.view(clean.sizes());
}

at::Tensor PartialPass::run(const Step& step, const std::vector<at::Tensor>& prepared,
                            const std::map<NodeId, at::Tensor>& changed) const {
  const Node& node = network_->nodes()[static_cast<size_t>(step.id)];
  if (!step.channels.defined()) {  // absorbs the change of its input
    const at::Tensor change = changed.at(node.inputs[0]) - prepared[step.clean[0]];
    const at::Tensor& clean = prepared[absorbed_clean_];
    if (node.kind == NodeKind::linear) return at::addmm(clean, change, absorbed_kernel_.t());
    return execute(node, {change}, {absorbed_kernel_, at::Tensor()}).add_(clean);
  }
  std::vector<at::Tensor> inputs, parameters;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    inputs.push_back(step.clean[i] == kChanged ? changed.at(node.inputs[i]) : prepared[step.clean[i]]);
  }
  if (node.kind == NodeKind::reshape) return inputs[0].flatten(1);
  for (const at::Tensor& value : graph::constant_values(*network_, node)) {
    parameters.push_back(value.defined() ? value.index_select(0, step.channels) : value);
  }
  return execute(node, inputs, parameters);
}

at::Tensor PartialPass::logits(const std::vector<at::Tensor>& prepared,
                               const std::map<ParameterId, at::Tensor>& kernels) const {
  std::map<NodeId, at::Tensor> changed;
  if (first_.id >= 0) changed[first_.id] = touched_channels(prepared, kernels);
  for (const Step& step : steps_) changed[step.id] = run(step, prepared, changed);
  std::vector<at::Tensor> live;
  for (size_t i = 0; i < live_.size(); ++i) {
    const NodeId id = rest_.live[i];
    if (!live_[i].changed) {
      live.push_back(prepared[live_[i].clean]);
    } else if (live_[i].clean == kChanged) {
      live.push_back(changed.at(id));
    } else {
      live.push_back(prepared[live_[i].clean].index_copy(1, channels_.at(id), changed.at(id)));
    }
  }
  if (rest_.first > network_->logits_node()) return live[0];
  return network_->suffix(rest_, live, kernels);
}

}  // namespace harness::search
