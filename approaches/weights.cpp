#include "approaches/weights.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "harness/core/error.hpp"
#include "harness/model/graph.hpp"

namespace harness {
namespace {

// Which of some weights or edits lie in each parameter, and where in it.
struct Places {
  std::vector<size_t> numbers;   // among them all
  std::vector<int64_t> indices;  // in the parameter
};

template <typename Place>
std::map<ParameterId, Places> places_of(const std::vector<Place>& all) {
  std::map<ParameterId, Places> places;
  for (size_t k = 0; k < all.size(); ++k) {
    Places& of = places[all[k].parameter];
    of.numbers.push_back(k);
    of.indices.push_back(all[k].index);
  }
  return places;
}

at::Tensor index_of(const std::vector<int64_t>& indices, const at::Tensor& like) {
  return at::tensor(indices, at::kLong).to(like.device());
}

}  // namespace

std::vector<TargetLayer> target_layers(const Network& network) {
  std::vector<TargetLayer> layers;
  if (!network.importable()) return layers;
  const std::vector<Node>& nodes = network.nodes();
  const std::vector<int> weight_readers = graph::parameter_reader_counts(network);
  for (NodeId id = 0; id < static_cast<NodeId>(nodes.size()); ++id) {
    const Node& node = nodes[static_cast<size_t>(id)];
    const bool convolution = graph::is_ungrouped_convolution(node) && node.shape.size() == 3;
    if (!graph::is_dense(node) && !convolution) continue;
    const ParameterId weight = node.parameters.at(0);
    if (weight < 0 || !network.parameters()[weight].trainable || weight_readers[weight] != 1) continue;
    const bool logits = id == network.logits_node();  // what follows those is a tail
    layers.push_back({.node = id,
                      .input = node.inputs.at(0),
                      .behind = logits ? id : graph::activation_behind(nodes, id),
                      .weight = weight,
                      .convolution = convolution});
  }
  return layers;
}

std::optional<Refusal> refuse_without_targets(const FixRequest& request) {
  const ImportReport& report = request.network->report();
  if (!report.importable) return Refusal{"operator", report.unknown_operator};
  if (target_layers(*request.network).empty()) {
    return Refusal{"structure", "no dense layer or ungrouped convolution with weights of its own"};
  }
  if (request.repair_faults && *request.repair_faults == 0) {
    return Refusal{"no_faults", "the repair split has no misclassified input"};
  }
  return std::nullopt;
}

std::vector<WeightRef> random_weights(const Network& network, const std::vector<TargetLayer>& layers,
                                      int64_t count, RandomStream& stream) {
  std::vector<int64_t> ends;  // running totals of the kernels' sizes
  int64_t total = 0;
  for (const TargetLayer& layer : layers) {
    total += network.parameters()[layer.weight].value.numel();
    ends.push_back(total);
  }
  std::vector<int64_t> drawn = stream.sample(total, std::min(count, total));
  std::sort(drawn.begin(), drawn.end());
  std::vector<WeightRef> weights;
  for (const int64_t position : drawn) {
    const size_t at = std::upper_bound(ends.begin(), ends.end(), position) - ends.begin();
    weights.push_back({layers[at].weight, at == 0 ? position : position - ends[at - 1]});
  }
  return weights;
}

Edits edits_of(const std::vector<WeightRef>& weights, std::span<const double> values) {
  Edits edits;
  edits.reserve(weights.size());
  for (size_t k = 0; k < weights.size(); ++k) {
    edits.push_back({weights[k].parameter, weights[k].index, static_cast<float>(values[k])});
  }
  return edits;
}

std::map<ParameterId, at::Tensor> overrides(const Network& network, const Edits& edits) {
  const at::NoGradGuard no_grad;
  std::map<ParameterId, at::Tensor> changed;
  for (const auto& [id, places] : places_of(edits)) {
    const at::Tensor tensor = network.parameters()[id].value.detach().clone(at::MemoryFormat::Contiguous);
    std::vector<float> values;
    for (const size_t k : places.numbers) values.push_back(edits[k].value);
    tensor.view(-1).index_copy_(0, index_of(places.indices, tensor),
                                at::tensor(values, at::kFloat).to(tensor.options()));
    changed[id] = tensor;
  }
  return changed;
}

void apply_edits(Network& network, const Edits& edits) {
  for (const auto& [id, value] : overrides(network, edits)) network.set_parameter(id, value);
}

Touched touched_by(const Network& network, const Edits& edits) {
  Touched touched;
  for (const Edit& edit : edits) {
    touched.weights[network.parameters()[edit.parameter].name].push_back(edit.index);
  }
  return touched;
}

at::Tensor stacked_kernels(const Network& network, const std::vector<WeightRef>& weights,
                           std::span<const double> candidates) {
  const at::NoGradGuard no_grad;
  const std::map<ParameterId, Places> places = places_of(weights);
  if (places.size() != 1) interface_misuse("stacked kernels of weights that are not all of one parameter");
  const at::Tensor& kernel = network.parameters()[weights[0].parameter].value;
  const auto count = static_cast<int64_t>(candidates.size() / weights.size());
  std::vector<int64_t> shape = kernel.sizes().vec();
  shape.insert(shape.begin(), count);
  at::Tensor stacked = kernel.detach().unsqueeze(0).expand(shape).clone(at::MemoryFormat::Contiguous);
  const std::vector<float> rounded(candidates.begin(), candidates.end());
  stacked.view({count, -1})
      .index_copy_(1, index_of(places.begin()->second.indices, kernel),
                   at::tensor(rounded, at::kFloat).view({count, -1}).to(kernel.options()));
  return stacked;
}

std::vector<float> read_weights(const Network& network, const std::vector<WeightRef>& weights) {
  std::vector<float> values(weights.size());
  for (const auto& [id, places] : places_of(weights)) {
    const at::Tensor kernel = network.parameters()[id].value.detach().reshape({-1});
    const at::Tensor found =
        kernel.index_select(0, index_of(places.indices, kernel)).to(at::kCPU, at::kFloat).contiguous();
    const float* const value = found.const_data_ptr<float>();
    for (size_t k = 0; k < places.numbers.size(); ++k) values[places.numbers[k]] = value[k];
  }
  return values;
}

at::Tensor weight_table(const std::vector<WeightRef>& weights) {
  std::vector<int64_t> flat;
  for (const WeightRef& weight : weights) flat.insert(flat.end(), {int64_t{weight.parameter}, weight.index});
  return at::tensor(flat, at::kLong).view({-1, 2});
}

std::vector<WeightRef> weights_of(const at::Tensor& table) {
  const int64_t* const flat = table.const_data_ptr<int64_t>();
  std::vector<WeightRef> weights;
  for (int64_t k = 0; k < table.numel(); k += 2)
    weights.push_back({static_cast<ParameterId>(flat[k]), flat[k + 1]});
  return weights;
}

}  // namespace harness
