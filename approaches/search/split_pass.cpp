#include "approaches/search/split_pass.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "approaches/search/evaluation_strategy.hpp"
#include "harness/model/memory_class.hpp"

namespace harness::search {
namespace {

// The dense layer that makes the logits, where what it reads may be kept for the whole split.
std::optional<TargetLayer> kept_layer(const Network& network, int64_t inputs) {
  for (const TargetLayer& layer : target_layers(network)) {
    if (layer.convolution || layer.node != network.logits_node()) continue;
    const int64_t width = network.parameters()[layer.weight].value.size(1);
    if (inputs * width * int64_t{sizeof(float)} <= cache_bytes(at::kCPU) / 4) return layer;
  }
  return std::nullopt;
}

}  // namespace

SplitPass::SplitPass(const Network& network, const Split& split, const Batching& batching) {
  const at::NoGradGuard no_grad;
  const auto layer = kept_layer(network, split.size());
  std::set<NodeId> wanted = {network.logits_node(), network.output_node()};
  if (layer) wanted.insert(layer->input);
  const std::vector<NodeId> nodes(wanted.begin(), wanted.end());
  std::vector<at::Tensor> logits, units, classes = {at::empty({0}, at::kLong)};
  for_each_batch(network, split, batching, [&](const Batch& batch) {
    const std::vector<at::Tensor> values = network.activations(batch.x, nodes);
    const auto of = [&](NodeId id) {
      return values[static_cast<size_t>(std::ranges::lower_bound(nodes, id) - nodes.begin())];
    };
    const auto keep = [](std::vector<at::Tensor>& parts, const at::Tensor& value) {
      parts.push_back(value.to(at::kCPU, at::kFloat).contiguous());
    };
    keep(logits, of(network.logits_node()));
    if (layer) keep(units, of(layer->input));
    classes.push_back(of(network.output_node()).argmax(1).cpu());
  });
  judgement_ = locate::judgement_of(split.labels(), at::cat(classes));
  if (!logits.empty()) known_.logits = at::cat(logits);
  if (!units.empty()) known_.units = at::cat(units);
}

CandidateEvaluator::Known SplitPass::known(const std::vector<int64_t>& positions) const {
  const at::Tensor places = at::tensor(positions, at::kLong);
  const auto rows = [&](const at::Tensor& of) { return of.defined() ? of.index_select(0, places) : of; };
  return {.logits = rows(known_.logits), .units = rows(known_.units)};
}

std::vector<int64_t> SplitPass::narrowest(const std::vector<int64_t>& positions, int64_t count) const {
  if (count >= std::ssize(positions)) return positions;
  const at::Tensor places = at::tensor(positions, at::kLong);
  const at::Tensor order =
      smallest_margin_first(known_.logits.index_select(0, places), judgement_.labels.index_select(0, places));
  const at::Tensor first = std::get<0>(places.index_select(0, order.slice(0, 0, count)).sort());
  return {first.const_data_ptr<int64_t>(), first.const_data_ptr<int64_t>() + count};
}

}  // namespace harness::search
