#include "approaches/locate/unit_values.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/batches.hpp"
#include "harness/model/memory_class.hpp"

namespace harness::locate {
namespace {

at::Tensor table_of(const std::vector<int64_t>& numbers, at::Device device) {
  return at::tensor(numbers, at::kLong).to(device);
}

}  // namespace

UnitValues::UnitValues(const Network& network, const std::vector<TargetLayer>& layers) : network_(network) {
  for (const TargetLayer& target : layers) {
    layers_.push_back({.target = target, .rest = search::Suffix(network, target.node)});
    const std::vector<NodeId>& beside = layers_.back().rest.skip_inputs();
    ids_.insert(ids_.end(), beside.begin(), beside.end());
    ids_.insert(ids_.end(), {target.input, target.node});
  }
  std::ranges::sort(ids_);
  const auto doubled = std::ranges::unique(ids_);
  ids_.erase(doubled.begin(), doubled.end());
  parts_.resize(ids_.size());
}

size_t UnitValues::index_of(NodeId id) const {
  return static_cast<size_t>(std::ranges::lower_bound(ids_, id) - ids_.begin());
}

PassWatch UnitValues::watch_negatives() {
  return {ids_,
          [this](const at::Tensor& rows, const std::vector<at::Tensor>& values) { keep(rows, values); }};
}

PassWatch UnitValues::watch_positives() {
  return {ids_, [this](const at::Tensor& rows, const std::vector<at::Tensor>& values) {
            widen_ranges(rows, values);
          }};
}

void UnitValues::keep(const at::Tensor& rows, const std::vector<at::Tensor>& values) {
  for (const at::Tensor& value : values)
    bytes_ += rows.numel() * (value.numel() / value.size(0)) * static_cast<int64_t>(value.element_size());
  const bool too_many = bytes_ > cache_bytes(network_.device());
  for (size_t k = 0; k < ids_.size(); ++k) {
    if (too_many)
      parts_[k].clear();
    else
      parts_[k].push_back(values[k].index_select(0, rows.to(network_.device())));
  }
}

void UnitValues::widen_ranges(const at::Tensor& rows, const std::vector<at::Tensor>& values) {
  const at::Tensor places = rows.to(network_.device());
  for (Layer& layer : layers_) {
    const at::Tensor units = values[index_of(layer.target.input)].index_select(0, places);
    const at::Tensor low = units.amin(0), high = units.amax(0);
    layer.low = layer.low.defined() ? at::minimum(layer.low, low) : low;
    layer.high = layer.high.defined() ? at::maximum(layer.high, high) : high;
  }
}

bool UnitValues::take_negatives(const std::vector<int64_t>& numbers, const at::Tensor& labels) {
  if (parts_[0].empty()) return false;
  const at::Tensor rows = table_of(numbers, network_.device());
  kept_.clear();
  for (std::vector<at::Tensor>& of_node : parts_) {
    kept_.push_back(at::cat(of_node).index_select(0, rows));
    of_node.clear();
  }
  labels_ = labels;
  widen_ranges(at::arange(labels.numel()), kept_);
  return true;
}

void UnitValues::collect(const search::SearchInputs& inputs, const Batching& batching) {
  for (Layer& layer : layers_) layer.low = layer.high = at::Tensor();
  std::vector<std::vector<at::Tensor>> parts(ids_.size());
  for (const at::Tensor& part : at::arange(inputs.size()).split(batching.batch)) {
    batching.stop.check();
    const std::vector<at::Tensor> values = network_.activations(inputs.load(part), ids_);
    widen_ranges(at::arange(part.numel()), values);
    const at::Tensor rows = inputs.negative().index_select(0, part).nonzero().flatten().to(network_.device());
    for (size_t k = 0; k < ids_.size(); ++k) parts[k].push_back(values[k].index_select(0, rows));
  }
  kept_.clear();
  for (const std::vector<at::Tensor>& of_node : parts) kept_.push_back(at::cat(of_node));
  labels_ = inputs.labels().index_select(0, inputs.negative().nonzero().flatten());
}

void UnitValues::widen(const InputSet& inputs, const Batching& batching) {
  for_each_batch(network_, inputs, batching, [&](const Batch& batch) {
    widen_ranges(at::arange(batch.x.size(0)), network_.activations(batch.x, ids_));
  });
}

}  // namespace harness::locate
