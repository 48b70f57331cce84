#include "approaches/routing/blocks.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/weights.hpp"
#include "harness/core/error.hpp"
#include "harness/model/graph.hpp"

namespace harness::routing {
namespace {

constexpr size_t kDeepNetwork = 4;  // conv stages from which the first two get the deeper probe
constexpr int64_t kDeepMap = 8;     // min rows and columns of a map that the deeper probe halves twice

class Stages {
 public:
  explicit Stages(const Network& network)
      : network_(network),
        targets_(target_layers(network)),
        relevant_(graph::needed_for(network.nodes(), {network.logits_node()})),
        skipped_(graph::bypassed_before(network.nodes(), network.logits_node())) {
    for (NodeId id = 0; id <= network.logits_node(); ++id) {
      const NodeKind kind = node(id).kind;
      const bool layer = kind == NodeKind::conv || kind == NodeKind::linear;
      if (layer && relevant_[static_cast<size_t>(id)]) classifier_ = id;
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

  // What normalises and activates the value of `id` and nothing else reads; a tail behind the logits is
  // apart.
  NodeId behind(NodeId id) const {
    while (id != network_.logits_node()) {
      const auto reader = graph::only_reader(network_.nodes(), id);
      if (!reader) break;
      const NodeKind kind = node(*reader).kind;
      if (kind != NodeKind::batch_norm && !is_activation(kind)) break;
      id = *reader;
    }
    return id;
  }

  void add(const TargetLayer& layer, NodeId output) {
    const ParameterId bias = graph::parameter_in(node(layer.node), 1);
    const bool movable = bias >= 0 && network_.parameters()[bias].trainable;
    blocks_.push_back({layer.node, output, layer.weight, movable ? bias : -1, 0});
  }

  int probe_depth(size_t stage, size_t stages) const {
    const NodeId output = blocks_[stage].output;
    const int64_t side = std::min(node(output).shape[1], node(output).shape[2]);
    if (area(output) == 1) return 0;
    if (stages < kDeepNetwork) return 1;
    const bool flattened =
        std::ranges::any_of(graph::readers_of(network_.nodes(), output),
                            [&](NodeId reader) { return node(reader).kind == NodeKind::reshape; });
    if (stage + 1 == stages && flattened) return 0;
    return stage < 2 && side >= kDeepMap ? 2 : 1;
  }

  const Network& network_;
  const std::vector<TargetLayer> targets_;
  graph::Marks relevant_;  // what the logits depend on
  graph::Marks skipped_;   // some connection goes past it
  NodeId classifier_ = -1;
  std::vector<ProbedBlock> blocks_;
};

}  // namespace

std::vector<ProbedBlock> probed_blocks(const Network& network) {
  if (!network.importable()) return {};
  return Stages(network).find();
}

std::optional<Refusal> refuse_without_blocks(const FixRequest& request) {
  const ImportReport& report = request.network->report();
  if (!report.importable) return Refusal{"operator", report.unknown_operator};
  if (probed_blocks(*request.network).empty()) {
    return Refusal{"structure", "no hidden block with a dense layer or ungrouped convolution of its own"};
  }
  if (request.repair_faults && *request.repair_faults == 0) {
    return Refusal{"no_faults", "the repair split has no misclassified input"};
  }
  return std::nullopt;
}

Segment segment_between(const Network& network, NodeId from, NodeId target) {
  const graph::Marks relevant = graph::needed_for(network.nodes(), {target});
  graph::Marks depends(network.nodes().size(), 0);
  depends[static_cast<size_t>(from)] = 1;
  depends = graph::dependents_of(network.nodes(), std::move(depends));
  Segment segment;
  for (NodeId id = from + 1; id <= target; ++id) {
    const auto at = static_cast<size_t>(id);
    if (depends[at] && relevant[at]) segment.nodes.push_back(id);
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
  return evaluate_onto(network, target, known, mode);
}

at::Tensor evaluate_onto(const Network& network, NodeId target, std::map<NodeId, at::Tensor>& known,
                         const PassMode& mode) {
  const graph::Marks needed =
      graph::needed_for(network.nodes(), {target}, [&](NodeId id) { return known.count(id) > 0; });
  for (NodeId id = 0; id <= target; ++id) {
    if (!needed[static_cast<size_t>(id)] || known.count(id) > 0) continue;
    const Node& node = network.nodes()[static_cast<size_t>(id)];
    if (node.kind == NodeKind::input) interface_misuse("a part was evaluated without what it reads");
    std::vector<at::Tensor> inputs, parameters;
    for (const NodeId input : node.inputs) inputs.push_back(known.at(input));
    for (const ParameterId parameter : node.parameters)
      parameters.push_back(graph::parameter_value(network, parameter));
    known[id] = execute(node, inputs, parameters, mode);
  }
  return known.at(target);
}

}  // namespace harness::routing
