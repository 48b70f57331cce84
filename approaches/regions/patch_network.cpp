#include "approaches/regions/patch_network.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "harness/core/error.hpp"
#include "harness/model/graph.hpp"

namespace harness::regions {
namespace {

// K of a region's change of patch (approaches/docs/RA.md, Formulas: joint): its largest absolute value over
// the box. Rounded up, so that a support of 0 leaves nothing of it in float32.
at::Tensor largest_values(const at::Tensor& factor, const at::Tensor& constant, const at::Tensor& low,
                          const at::Tensor& high) {
  if (!factor.defined()) return constant.abs().amax(1);
  const at::Tensor at_low = factor * low, at_high = factor * high;
  const at::Tensor maximum = at::maximum(at_low, at_high).sum(2) + constant;
  const at::Tensor min_value = at::minimum(at_low, at_high).sum(2) + constant;
  return at::maximum(maximum.abs(), min_value.abs()).amax(1) * (1 + 1e-6);
}

// Differences of successive patches, the first one to none.
at::Tensor telescoped(const at::Tensor& patches) {
  at::Tensor change = patches.clone();
  change.slice(0, 1) -= patches.slice(0, 0, -1);
  return change;
}

// Regions that are computed together. `name` is part of the names of their nodes: empty for all regions.
struct Part {
  int64_t begin = 0, end = 0;
  std::string name;
};

// Parts of the regions, each of at most `most` numbers where a region has `each` of them.
std::vector<Part> parts_of(int64_t regions, int64_t each, int64_t most) {
  const int64_t size = std::clamp<int64_t>(most / each, 1, regions);
  std::vector<Part> parts;
  for (int64_t begin = 0; begin < regions; begin += size) {
    const std::string name = size < regions ? "part" + std::to_string(parts.size() + 1) + "." : "";
    parts.push_back({begin, std::min(regions, begin + size), name});
  }
  return parts;
}

int64_t region_count(const PatchSetting& setting) {
  return setting.patches.constant.size(0);
}

// For what lies behind the first hidden layer.
std::vector<Part> deep_parts(const DenseHead& head, const PatchSetting& setting) {
  int64_t widest = 1;
  for (const DenseLayer& layer : head.hidden) widest = std::max(widest, layer.units());
  return parts_of(region_count(setting), widest, setting.most_values);
}

std::string deep_name(size_t layer, const Part& part) {
  return "layer" + std::to_string(layer + 1) + "." + part.name;
}

// The constants that n goes into, by name.
std::map<std::string, at::Tensor> sharpness_constants(const DenseHead& head, const PatchSetting& setting) {
  const double n = setting.sharpness;
  std::map<std::string, at::Tensor> constants = {{"above_factor", at::full({1}, n, at::kDouble)},
                                                 {"below_factor", at::full({1}, -n, at::kDouble)}};
  for (size_t l = 1; l < head.hidden.size(); ++l) {
    const at::Tensor sign = n - 2 * n * setting.patterns[l].to(at::kDouble);
    for (const Part& part : deep_parts(head, setting))
      constants[deep_name(l, part) + "sign"] = sign.slice(0, part.begin, part.end);
  }
  return constants;
}

// Appends nodes behind the logits, one after the other.
class Builder {
 public:
  Builder(const Network& original, const DenseHead& head, const PatchSetting& setting)
      : head_(head),
        setting_(setting),
        network_(original.fork()),
        type_(graph::number_type(original)),
        logits_(original.logits_node()),
        last_(logits_),
        count_(region_count(setting)),
        sharp_(sharpness_constants(head, setting)) {}

  Network build() {
    const AffinePatches& given = setting_.patches;
    const AffinePatches changes = {given.factor.defined() ? telescoped(given.factor) : given.factor,
                                   telescoped(given.constant)};
    const NodeId left = scaled_left(latest_support(supports()), changes);
    NodeId logits = logits_;
    for (const Part& part : parts_of(count_, head_.output.units(), setting_.most_values)) {
      const NodeId patch = patches(part, slice_of(part, "left_part", left), changes);
      // mean and not sum: the graph has that; the factor comes back with the addition.
      const NodeId mean = insert(NodeKind::mean, part.name + "mean", {patch}, DimsAttributes{{1}, false});
      logits = insert(NodeKind::add, part.name + "logits", {logits, mean},
                      ArithmeticAttributes{.alpha = static_cast<double>(part.end - part.begin)});
    }
    return std::move(network_);
  }

 private:
  NodeId insert(NodeKind kind, const std::string& name, std::vector<NodeId> inputs, Attributes attributes,
                std::vector<ParameterId> parameters = {}) {
    Node node;
    node.kind = kind;
    node.name = "reassure." + name;
    node.inputs = std::move(inputs);
    node.parameters = std::move(parameters);
    node.attributes = std::move(attributes);
    last_ = network_.insert_after(last_, std::move(node));
    return last_;
  }

  ParameterId constant(const std::string& name, const at::Tensor& value) {
    return network_.add_parameter("reassure." + name, value.to(type_).contiguous(), /*trainable=*/false);
  }

  NodeId times(const std::string& name, NodeId input, ParameterId factor) {
    return insert(NodeKind::mul, name, {input}, ArithmeticAttributes{}, {factor});
  }
  NodeId cut_to_unit(const std::string& name, NodeId input) {
    return insert(NodeKind::hardtanh, name, {input}, ActivationAttributes{.a = 0, .b = 1});
  }
  NodeId relu(const std::string& name, NodeId input) {
    return insert(NodeKind::relu, name, {input}, NoAttributes{});
  }
  NodeId reshaped(const std::string& name, NodeId input, std::vector<int64_t> sizes) {
    return insert(NodeKind::reshape, name, {input}, ReshapeAttributes{std::move(sizes)});
  }
  // Of (N, L, ...) the regions of a part.
  NodeId slice_of(const Part& part, const std::string& name, NodeId input) {
    if (part.end - part.begin == count_) return input;
    return insert(NodeKind::slice, part.name + name, {input},
                  SliceAttributes{.dim = 1, .begin = part.begin, .end = part.end});
  }

  // g (N, L) of all regions. z of the first layer is the network's own.
  NodeId supports() {
    const NodeId z = head_.hidden[0].value;
    const NodeId above = cut_to_unit("above", times("above_scaled", z, sharp("above_factor")));
    const NodeId below = cut_to_unit("below", times("below_scaled", z, sharp("below_factor")));
    const NodeId both = insert(NodeKind::concat, "violations", {above, below}, DimsAttributes{{1}, false});
    const at::Tensor active = setting_.patterns[0].to(at::kDouble);
    const NodeId left =
        insert(NodeKind::linear, "mask", {both}, NoAttributes{},
               {constant("mask", at::cat({active - 1, -active}, 1)), constant("one", at::ones({count_}))});
    return relu("support", head_.hidden.size() > 1 ? left_by_deeper_layers(left) : left);
  }

  ParameterId sharp(const std::string& name) { return constant(name, sharp_.at(name)); }

  // (N, L): `left` less the violations of the rows of deeper layers, part by part.
  NodeId left_by_deeper_layers(NodeId left) {
    std::vector<ParameterId> weights, biases;
    for (size_t l = 1; l < head_.hidden.size(); ++l) {
      const std::string name = deep_name(l, {});
      weights.push_back(constant(name + "weight", head_.hidden[l].weight));
      biases.push_back(constant(name + "bias", head_.hidden[l].bias));
    }
    const NodeId z = reshaped("layer2.input", head_.hidden[0].value, {1, head_.hidden[0].units()});
    std::vector<NodeId> lefts;
    for (const Part& part : deep_parts(head_, setting_)) {
      NodeId deep = z, rest = slice_of(part, "left_before", left);
      for (size_t l = 1; l < head_.hidden.size(); ++l) {
        const std::string name = deep_name(l, part);
        const NodeId passed = times(name + "slope", deep, slopes(name, l - 1, part));
        deep = insert(NodeKind::linear, name + "values", {passed}, NoAttributes{},
                      {weights[l - 1], biases[l - 1]});
        const NodeId violations =
            cut_to_unit(name + "violations", times(name + "signed", deep, sharp(name + "sign")));
        const NodeId mean = insert(NodeKind::mean, name + "mean", {violations}, DimsAttributes{{2}, false});
        rest = insert(NodeKind::sub, name + "left", {rest, mean},
                      ArithmeticAttributes{.alpha = static_cast<double>(head_.hidden[l].units())});
      }
      lefts.push_back(rest);
    }
    return lefts.size() == 1 ? lefts[0] : insert(NodeKind::concat, "left", lefts, DimsAttributes{{1}, false});
  }

  // How a unit of hidden layer `l` goes on in each region of a part (part, units), whatever its sign: z of
  // the next layer is what it would be if every unit went on as it does in the region.
  ParameterId slopes(const std::string& name, size_t l, const Part& part) {
    const at::Tensor active = setting_.patterns[l].slice(0, part.begin, part.end);
    return constant(name + "slopes", at::where(active, at::ones({}, at::kDouble),
                                               at::full({}, head_.hidden[l].slope, at::kDouble)));
  }

  // G (N, 1, L): the largest support of a region and all after it. Two poolings reach all: a window of
  // neighbours, then a window of such windows.
  NodeId latest_support(NodeId support) {
    const NodeId row = reshaped("support_row", support, {1, count_});
    const auto width = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(count_))));
    const NodeId near = latest_of("near", row, width, 1);
    return latest_of("far", near, (count_ + width - 1) / width, width);
  }
  NodeId latest_of(const std::string& name, NodeId input, int64_t window, int64_t apart) {
    if (window == 1) return input;
    const NodeId padded =
        insert(NodeKind::pad, name + "_padded", {input}, PadAttributes{{0, (window - 1) * apart}});
    PoolAttributes pool;
    pool.kernel = {window};
    pool.stride = {1};
    pool.padding = {0};
    pool.dilation = {apart};
    return insert(NodeKind::max_pool, name, {padded}, pool);
  }

  // K (G - 1), (N, L, 1).
  NodeId scaled_left(NodeId latest, const AffinePatches& changes) {
    const NodeId column = reshaped("latest", latest, {count_, 1});
    const NodeId missing =
        insert(NodeKind::sub, "missing", {column}, ArithmeticAttributes{.scalar = 1, .alpha = 1});
    const auto rounded = [&](const at::Tensor& value) { return value.to(type_).to(at::kDouble); };
    const at::Tensor largest =
        largest_values(changes.factor.defined() ? rounded(changes.factor) : changes.factor,
                       rounded(changes.constant), setting_.low, setting_.high);
    return times("largest", missing, constant("largest_changes", largest.unsqueeze(1)));
  }

  // relu(q + K (G - 1)) - relu(-q + K (G - 1)) for the changes q of a part's regions, (N, part, C).
  NodeId patches(const Part& part, NodeId left, const AffinePatches& changes) {
    const at::Tensor change = changes.constant.slice(0, part.begin, part.end);
    NodeId sum = -1, difference = -1;
    if (changes.factor.defined()) {
      const at::Tensor factor = changes.factor.slice(0, part.begin, part.end).flatten(0, 1);
      const NodeId flat = insert(NodeKind::linear, part.name + "change_flat", {head_.cut}, NoAttributes{},
                                 {constant(part.name + "change_factor", factor),
                                  constant(part.name + "change_constant", change.flatten())});
      const NodeId q = reshaped(part.name + "change", flat, {change.size(0), change.size(1)});
      sum = insert(NodeKind::add, part.name + "plus", {left, q}, ArithmeticAttributes{});
      difference = insert(NodeKind::sub, part.name + "minus", {left, q}, ArithmeticAttributes{});
    } else {
      const ParameterId q = constant(part.name + "change", change);
      sum = insert(NodeKind::add, part.name + "plus", {left}, ArithmeticAttributes{}, {q});
      difference = insert(NodeKind::sub, part.name + "minus", {left}, ArithmeticAttributes{}, {q});
    }
    const NodeId positive = relu(part.name + "plus_part", sum);
    const NodeId negative = relu(part.name + "minus_part", difference);
    return insert(NodeKind::sub, part.name + "both_parts", {positive, negative}, ArithmeticAttributes{});
  }

  const DenseHead& head_;
  const PatchSetting& setting_;
  Network network_;
  at::ScalarType type_;
  NodeId logits_, last_;
  int64_t count_;
  std::map<std::string, at::Tensor> sharp_;
};

}  // namespace

Network with_patches(const Network& original, const DenseHead& head, const PatchSetting& setting) {
  const at::NoGradGuard no_grad;
  return Builder(original, head, setting).build();
}

void set_sharpness(Network& patched, const DenseHead& head, const PatchSetting& setting) {
  for (const auto& [name, value] : sharpness_constants(head, setting)) {
    const ParameterId id = patched.find_parameter("reassure." + name);
    if (id < 0) interface_misuse("set_sharpness of a network without reassure." + name);
    patched.set_parameter(id, value);
  }
}

double operations(const Network& network) {
  double total = 0;
  for (const Node& node : network.nodes()) {
    double each = node.kind == NodeKind::input || node.kind == NodeKind::reshape ? 0 : 1;
    if (node.kind == NodeKind::conv || node.kind == NodeKind::linear) {
      const at::Tensor& weight = network.parameters()[node.parameters[0]].value;
      each = static_cast<double>(weight.numel() / weight.size(0));
    } else if (const auto* pool = std::get_if<PoolAttributes>(&node.attributes)) {
      each = static_cast<double>(graph::value_count(pool->kernel));
    }
    total += each * static_cast<double>(graph::value_count(node.shape));
  }
  return total;
}

}  // namespace harness::regions
