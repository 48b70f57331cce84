#include "approaches/routing/kept_values.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "harness/core/error.hpp"
#include "harness/model/graph.hpp"
#include "harness/model/memory_class.hpp"

namespace harness::routing {
namespace {

constexpr size_t kMean = 2, kVariance = 3;  // roles of a batch norm's running averages

}  // namespace

KeptValues::KeptValues(Setup setup) : setup_(std::move(setup)) {
  if (setup_.moved.empty()) interface_misuse("no layer that trains");
  const graph::Nodes& nodes = setup_.network.nodes();
  const graph::Marks needed = graph::needed_for(nodes, {setup_.network.logits_node()});
  NodeId first = *std::min_element(setup_.moved.begin(), setup_.moved.end());
  for (NodeId id = 1; id < first; ++id) {
    const NodeKind kind = nodes[static_cast<size_t>(id)].kind;
    const bool drawn = setup_.training && kind == NodeKind::dropout;  // other masks in each pass
    const bool averaged = !setup_.training && setup_.averages_move && kind == NodeKind::batch_norm;
    if (needed[static_cast<size_t>(id)] && (drawn || averaged)) first = id;
  }
  cut_ = setup_.network.cut_before(first);
  for (const NodeId id : cut_.live) {
    bytes_ +=
        graph::value_count(nodes[static_cast<size_t>(id)].shape) * setup_.inputs * int64_t{sizeof(float)};
  }
  keeps_ = bytes_ <= setup_.limit.value_or(cache_bytes(setup_.network.device()) / 2);
  if (!setup_.training) return;
  for (NodeId id = 1; id < first; ++id) {
    const Node& node = nodes[static_cast<size_t>(id)];
    if (node.kind != NodeKind::batch_norm || !needed[static_cast<size_t>(id)]) continue;
    if (node.parameters[kMean] >= 0 && node.parameters[kVariance] >= 0) norms_.push_back(id);
  }
}

std::map<NodeId, at::Tensor> KeptValues::known(const InputSet& inputs, int64_t begin, int64_t end) {
  const auto load = [&] { return inputs.load(begin, end, setup_.network.device()); };
  if (!keeps_) return {{0, load()}};
  const auto [found, fresh] = entries_.try_emplace({&inputs, begin, end});
  if (fresh) found->second = compute(load());
  move_averages(found->second);
  std::map<NodeId, at::Tensor> known;
  for (size_t k = 0; k < cut_.live.size(); ++k) known[cut_.live[k]] = found->second.live[k];
  return known;
}

// In train mode batch norms write their batch's statistics to averages of their own, which they replace.
KeptValues::Entry KeptValues::compute(const at::Tensor& x) const {
  const at::NoGradGuard constant;
  if (!setup_.training) return {.live = setup_.network.activations(x, cut_.live), .statistics = {}};
  const graph::Nodes& nodes = setup_.network.nodes();
  const graph::Marks needed = graph::needed_for(nodes, cut_.live);
  Entry entry;
  std::map<NodeId, at::Tensor> values = {{0, x}};
  for (NodeId id = 1; id < cut_.first; ++id) {
    const bool norm = std::binary_search(norms_.begin(), norms_.end(), id);
    if (!norm && !needed[static_cast<size_t>(id)]) continue;
    Node node = nodes[static_cast<size_t>(id)];
    std::vector<at::Tensor> inputs, parameters;
    for (const NodeId input : node.inputs) inputs.push_back(values.at(input));
    for (const ParameterId parameter : node.parameters)
      parameters.push_back(graph::parameter_value(setup_.network, parameter));
    if (norm) {
      std::get<BatchNormAttributes>(node.attributes).momentum = 1;
      for (const size_t role : {kMean, kVariance}) {
        parameters[role] = at::zeros_like(parameters[role]);
        entry.statistics.push_back(parameters[role]);
      }
    }
    values[id] = execute(node, inputs, parameters, {.training = true});
  }
  for (const NodeId id : cut_.live) entry.live.push_back(values.at(id));
  return entry;
}

void KeptValues::move_averages(const Entry& entry) const {
  const at::NoGradGuard constant;
  for (size_t k = 0; k < norms_.size(); ++k) {
    const Node& node = setup_.network.nodes()[static_cast<size_t>(norms_[k])];
    const double momentum = std::get<BatchNormAttributes>(node.attributes).momentum;
    for (const size_t role : {kMean, kVariance}) {
      at::Tensor average = graph::parameter_value(setup_.network, node.parameters[role]);
      const at::Tensor& batch = entry.statistics[2 * k + role - kMean];
      average.copy_(average.to(at::kDouble).mul_(1 - momentum).add_(batch.to(at::kDouble), momentum));
    }
  }
}

double accuracy(const Network& network, KeptValues& kept, const InputSet& inputs, const Batching& batching) {
  if (!kept.keeps()) return harness::accuracy(network, inputs, batching);
  const at::NoGradGuard constant;
  at::Tensor right = at::zeros({}, at::TensorOptions(at::kLong).device(network.device()));
  for (int64_t begin = 0; begin < inputs.size(); begin += batching.batch) {
    batching.stop.check();
    const int64_t end = std::min(inputs.size(), begin + batching.batch);
    std::vector<at::Tensor> live;  // ascending by node, as the cut has them
    for (auto& [id, value] : kept.known(inputs, begin, end)) live.push_back(std::move(value));
    const at::Tensor z = network.suffix(kept.cut(), live);
    right.add_((z.argmax(1) == inputs.labels(begin, end, network.device())).sum());
  }
  return static_cast<double>(right.item<int64_t>()) /
         static_cast<double>(std::max<int64_t>(1, inputs.size()));
}

}  // namespace harness::routing
