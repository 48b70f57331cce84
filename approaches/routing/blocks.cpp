#include "approaches/routing/blocks.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/weights.hpp"
#include "harness/core/error.hpp"

namespace harness {
namespace {

constexpr size_t kDeepNetwork = 4;  // conv stages from which the first two get the deeper probe
constexpr int64_t kDeepMap = 8;     // least rows and columns of a map that the deeper probe halves twice

// Nodes of the graph that the logits depend on.
std::vector<char> relevant_nodes(const Network& network, NodeId target) {
  std::vector<char> relevant(network.nodes().size(), 0);
  relevant[static_cast<size_t>(target)] = 1;
  for (auto id = static_cast<size_t>(target); id > 0; --id) {
    if (!relevant[id]) continue;
    for (const NodeId input : network.nodes()[id].inputs) relevant[static_cast<size_t>(input)] = 1;
  }
  return relevant;
}

class Stages {
 public:
  explicit Stages(const Network& network)
      : network_(network),
        targets_(target_layers(network)),
        relevant_(relevant_nodes(network, network.logits_node())),
        skipped_(network.nodes().size(), 0),
        readers_(network.nodes().size()) {
    for (NodeId id = 0; id <= network.logits_node(); ++id) {
      if (!relevant_[static_cast<size_t>(id)]) continue;
      const Node& reader = node(id);
      for (const NodeId input : reader.inputs) {
        readers_[static_cast<size_t>(input)].push_back(id);
        for (NodeId between = input + 1; between < id; ++between) skipped_[static_cast<size_t>(between)] = 1;
      }
      if (reader.kind == NodeKind::conv || reader.kind == NodeKind::linear) classifier_ = id;
    }
  }

  std::vector<ProbedBlock> find() {
    add_convolutional();
    const size_t stages = blocks_.size();
    for (size_t k = 0; k < stages; ++k) blocks_[k].probe_depth = probe_depth(k, stages);
    for (const TargetLayer& layer : targets_) {
      if (layer.convolution || layer.node == classifier_ || !relevant_[static_cast<size_t>(layer.node)]) {
        continue;
      }
      add(layer, behind(layer.node));
    }
    return blocks_;
  }

 private:
  const Node& node(NodeId id) const { return network_.nodes()[static_cast<size_t>(id)]; }
  bool is_map(NodeId id) const { return node(id).shape.size() == 3; }
  int64_t area(NodeId id) const { return is_map(id) ? node(id).shape[1] * node(id).shape[2] : 0; }

  // What every path from the input to the logits goes through; padding changes no resolution.
  std::vector<NodeId> trunk() const {
    std::vector<NodeId> ids;
    for (NodeId id = 1; id <= network_.logits_node(); ++id) {
      const auto at = static_cast<size_t>(id);
      if (relevant_[at] && !skipped_[at] && node(id).kind != NodeKind::pad) ids.push_back(id);
    }
    return ids;
  }

  // A pooling that ends a stage: not the one over the whole map that replaces flattening.
  bool ends_stage(NodeId pool, NodeId before) const {
    const NodeKind kind = node(pool).kind;
    const bool average = kind == NodeKind::avg_pool && area(pool) > 1;
    return node(pool).inputs[0] == before && is_map(pool) && (kind == NodeKind::max_pool || average);
  }

  void add_convolutional() {
    const std::vector<NodeId> ids = trunk();
    const bool branched = std::ranges::any_of(skipped_, [](char skipped) { return skipped != 0; });
    NodeId begin = 0;
    for (size_t k = 0; k + 1 < ids.size(); ++k) {
      if (!is_map(ids[k]) || area(ids[k + 1]) >= area(ids[k])) continue;
      const NodeId end = ends_stage(ids[k + 1], ids[k]) ? ids[k + 1] : ids[k];
      add_stage(begin, end, branched);
      begin = end;
    }
  }

  // The nodes after `begin` up to `end`.
  void add_stage(NodeId begin, NodeId end, bool branched) {
    const TargetLayer* chosen = nullptr;
    const auto window = [&](const TargetLayer& layer) {
      const at::Tensor& kernel = network_.parameters()[layer.weight].value;
      return kernel.size(2) * kernel.size(3) > 1;
    };
    for (const TargetLayer& layer : targets_) {
      if (!layer.convolution || layer.node <= begin || layer.node > end) continue;
      if (layer.node == classifier_ || !relevant_[static_cast<size_t>(layer.node)]) continue;
      if (chosen == nullptr || window(layer) || !window(*chosen)) chosen = &layer;
    }
    const auto inside = [&](NodeId id) { return skipped_[static_cast<size_t>(id)] != 0; };
    bool skips = false;
    for (NodeId id = begin + 1; id <= end; ++id) skips |= inside(id);
    if (chosen != nullptr && (skips || !branched)) add(*chosen, end);
  }

  NodeId behind(NodeId id) const {
    while (true) {
      const std::vector<NodeId>& readers = readers_[static_cast<size_t>(id)];
      if (readers.size() != 1) return id;
      const NodeKind kind = node(readers[0]).kind;
      if (kind != NodeKind::batch_norm && !is_activation(kind)) return id;
      id = readers[0];
    }
  }

  void add(const TargetLayer& layer, NodeId output) {
    const ParameterId bias = node(layer.node).parameters.size() > 1 ? node(layer.node).parameters[1] : -1;
    const bool movable = bias >= 0 && network_.parameters()[bias].trainable;
    blocks_.push_back({layer.node, output, layer.weight, movable ? bias : -1, 0});
  }

  int probe_depth(size_t stage, size_t stages) const {
    const NodeId output = blocks_[stage].output;
    const int64_t min_value = std::min(node(output).shape[1], node(output).shape[2]);
    if (area(output) == 1) return 0;
    if (stages < kDeepNetwork) return 1;
    const bool flattened = std::ranges::any_of(readers_[static_cast<size_t>(output)], [&](NodeId reader) {
      return node(reader).kind == NodeKind::reshape;
    });
    if (stage + 1 == stages && flattened) return 0;
    return stage < 2 && min_value >= kDeepMap ? 2 : 1;
  }

  const Network& network_;
  const std::vector<TargetLayer> targets_;
  std::vector<char> relevant_, skipped_;  // by node; skipped: some connection goes past it
  std::vector<std::vector<NodeId>> readers_;
  NodeId classifier_ = -1;
  std::vector<ProbedBlock> blocks_;
};

}  // namespace

std::vector<ProbedBlock> probed_blocks(const Network& network) {
  if (!network.importable()) return {};
  return Stages(network).find();
}

std::optional<Refusal> refuse_without_blocks(const FixRequest& context) {
  const ImportReport& report = context.network->report();
  if (!report.importable) return Refusal{"operator", report.unknown_operator};
  if (probed_blocks(*context.network).empty()) {
    return Refusal{"structure", "no hidden block with a dense layer or ungrouped convolution of its own"};
  }
  if (context.repair_faults && *context.repair_faults == 0) {
    return Refusal{"no_faults", "the repair split has no misclassified input"};
  }
  return std::nullopt;
}

Segment segment_between(const Network& network, NodeId from, NodeId target) {
  const std::vector<char> relevant = relevant_nodes(network, target);
  std::vector<char> depends(network.nodes().size(), 0);
  depends[static_cast<size_t>(from)] = 1;
  Segment segment;
  for (NodeId id = from + 1; id <= target; ++id) {
    const Node& node = network.nodes()[static_cast<size_t>(id)];
    const bool reads = std::ranges::any_of(
        node.inputs, [&](NodeId input) { return depends[static_cast<size_t>(input)] != 0; });
    if (!reads || !relevant[static_cast<size_t>(id)]) continue;
    depends[static_cast<size_t>(id)] = 1;
    segment.nodes.push_back(id);
  }
  for (const NodeId id : segment.nodes) {
    for (const NodeId input : network.nodes()[static_cast<size_t>(id)].inputs) {
      if (!depends[static_cast<size_t>(input)]) segment.live.push_back(input);
    }
  }
  std::ranges::sort(segment.live);
  segment.live.erase(std::unique(segment.live.begin(), segment.live.end()), segment.live.end());
  if (from != target && (segment.nodes.empty() || segment.nodes.back() != target))
    interface_misuse("a block's output does not depend on its layer");
  return segment;
}

at::Tensor evaluate_part(const Network& network, NodeId target, std::map<NodeId, at::Tensor> known,
                         const PassMode& mode) {
  std::vector<char> needed(network.nodes().size(), 0);
  needed[static_cast<size_t>(target)] = 1;
  for (NodeId id = target; id > 0; --id) {
    if (!needed[static_cast<size_t>(id)] || known.count(id) > 0) continue;
    for (const NodeId input : network.nodes()[static_cast<size_t>(id)].inputs)
      needed[static_cast<size_t>(input)] = 1;
  }
  for (NodeId id = 0; id <= target; ++id) {
    if (!needed[static_cast<size_t>(id)] || known.count(id) > 0) continue;
    const Node& node = network.nodes()[static_cast<size_t>(id)];
    if (node.kind == NodeKind::input) interface_misuse("a part was evaluated without what it reads");
    std::vector<at::Tensor> inputs, parameters;
    for (const NodeId input : node.inputs) inputs.push_back(known.at(input));
    for (const ParameterId parameter : node.parameters)
      parameters.push_back(parameter < 0 ? at::Tensor() : network.parameters()[parameter].value);
    known[id] = execute(node, inputs, parameters, mode);
  }
  return known.at(target);
}

}  // namespace harness
