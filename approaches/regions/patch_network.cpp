#include "approaches/regions/patch_network.hpp"

#include <ATen/ATen.h>

#include <cmath>

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
        count_(setting.patches.constant.size(0)) {}

  Network build() {
    const NodeId left = scaled_left(latest_support(supports()));
    const NodeId patch = patches(left);
    // mean and not sum: the graph has that; the factor comes back with the addition.
    const NodeId mean = insert(NodeKind::mean, "mean", {patch}, DimsAttributes{{1}, false});
    insert(NodeKind::add, "logits", {logits_, mean},
           ArithmeticAttributes{.alpha = static_cast<double>(count_)});
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

  NodeId times(const std::string& name, NodeId input, double factor) {
    return insert(NodeKind::mul, name, {input}, ArithmeticAttributes{.scalar = factor});
  }
  NodeId times(const std::string& name, NodeId input, const at::Tensor& factor) {
    return insert(NodeKind::mul, name, {input}, ArithmeticAttributes{}, {constant(name, factor)});
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

  // g (N, L) of all regions. z of the first layer is the network's own.
  NodeId supports() {
    const double n = setting_.sharpness;
    const NodeId z = head_.hidden[0].value;
    const NodeId above = cut_to_unit("above", times("above_scaled", z, n));
    const NodeId below = cut_to_unit("below", times("below_scaled", z, -n));
    const NodeId both = insert(NodeKind::concat, "violations", {above, below}, DimsAttributes{{1}, false});
    const at::Tensor active = setting_.patterns[0].to(at::kDouble);
    NodeId left =
        insert(NodeKind::linear, "mask", {both}, NoAttributes{},
               {constant("mask", at::cat({active - 1, -active}, 1)), constant("one", at::ones({count_}))});
    NodeId deep = -1;
    for (size_t l = 1; l < head_.hidden.size(); ++l) {
      const std::string name = "layer" + std::to_string(l + 1) + ".";
      if (l == 1) deep = reshaped(name + "input", z, {1, head_.hidden[0].units()});
      deep = deeper_values(name, l, deep);
      const at::Tensor sign = n - 2 * n * setting_.patterns[l].to(at::kDouble);
      const NodeId violations = cut_to_unit(name + "violations", times(name + "sign", deep, sign));
      const NodeId mean = insert(NodeKind::mean, name + "mean", {violations}, DimsAttributes{{2}, false});
      left = insert(NodeKind::sub, name + "left", {left, mean},
                    ArithmeticAttributes{.alpha = static_cast<double>(head_.hidden[l].units())});
    }
    return relu("support", left);
  }

  // z of layer `l` if every unit before it went on as it does in each region: (N, L, units), from the same of
  // the layer before.
  NodeId deeper_values(const std::string& name, size_t l, NodeId before) {
    const at::Tensor slope = at::where(setting_.patterns[l - 1], at::ones({}, at::kDouble),
                                       at::full({}, head_.hidden[l - 1].slope, at::kDouble));
    const NodeId passed = times(name + "slope", before, slope);
    return insert(
        NodeKind::linear, name + "values", {passed}, NoAttributes{},
        {constant(name + "weight", head_.hidden[l].weight), constant(name + "bias", head_.hidden[l].bias)});
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
  NodeId scaled_left(NodeId latest) {
    const NodeId column = reshaped("latest", latest, {count_, 1});
    const NodeId missing =
        insert(NodeKind::sub, "missing", {column}, ArithmeticAttributes{.scalar = 1, .alpha = 1});
    const AffinePatches& p = setting_.patches;
    const at::Tensor factor = p.factor.defined() ? telescoped(p.factor).to(type_) : at::Tensor();
    const at::Tensor largest =
        largest_values(factor.defined() ? factor.to(at::kDouble) : factor,
                       telescoped(p.constant).to(type_).to(at::kDouble), setting_.low, setting_.high);
    return times("largest", missing, largest.unsqueeze(1));
  }

  // relu(q + K (G - 1)) - relu(-q + K (G - 1)) for the changes q, (N, L, C).
  NodeId patches(NodeId left) {
    const at::Tensor change = telescoped(setting_.patches.constant);
    NodeId sum = -1, difference = -1;
    if (setting_.patches.factor.defined()) {
      const at::Tensor factor = telescoped(setting_.patches.factor).flatten(0, 1);
      const NodeId flat = insert(NodeKind::linear, "change_flat", {head_.cut}, NoAttributes{},
                                 {constant("change_factor", factor), constant("change", change.flatten())});
      const NodeId q = reshaped("change", flat, {count_, change.size(1)});
      sum = insert(NodeKind::add, "plus", {left, q}, ArithmeticAttributes{});
      difference = insert(NodeKind::sub, "minus", {left, q}, ArithmeticAttributes{});
    } else {
      const ParameterId q = constant("change", change);
      sum = insert(NodeKind::add, "plus", {left}, ArithmeticAttributes{}, {q});
      difference = insert(NodeKind::sub, "minus", {left}, ArithmeticAttributes{}, {q});
    }
    const NodeId positive = relu("plus_part", sum);
    const NodeId negative = relu("minus_part", difference);
    return insert(NodeKind::sub, "parts", {positive, negative}, ArithmeticAttributes{});
  }

  const DenseHead& head_;
  const PatchSetting& setting_;
  Network network_;
  at::ScalarType type_;
  NodeId logits_, last_;
  int64_t count_;
};

}  // namespace

Network with_patches(const Network& original, const DenseHead& head, const PatchSetting& setting) {
  const at::NoGradGuard no_grad;
  return Builder(original, head, setting).build();
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
