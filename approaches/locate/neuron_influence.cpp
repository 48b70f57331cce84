#include "approaches/locate/neuron_influence.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "approaches/search/evaluation_strategy.hpp"
#include "approaches/search/suffix.hpp"
#include "harness/model/autograd.hpp"
#include "harness/model/graph.hpp"

namespace harness::locate {
namespace {

// The node whose channels are zeroed when the layer's units go.
NodeId silenced_node(const Network& network, const TargetLayer& layer) {
  const auto reader = graph::only_reader(network.nodes(), layer.node);
  const bool normed = reader && network.nodes()[static_cast<size_t>(*reader)].kind == NodeKind::batch_norm;
  return normed ? *reader : layer.node;
}

// Of one input.
double operations(const Network& network, const Node& node) {
  const auto values = static_cast<double>(graph::value_count(node.shape));
  if (node.kind != NodeKind::conv && node.kind != NodeKind::linear) return values;
  const at::Tensor& kernel = network.parameters()[node.parameters[0]].value;
  return values * static_cast<double>(kernel.numel() / kernel.size(0));
}

// Zeros where the loss does not depend on x at all.
at::Tensor gradient_of(const at::Tensor& loss, const at::Tensor& x) {
  if (!loss.requires_grad()) return at::zeros_like(x);
  const at::Tensor gradient = grad({loss}, {x}, {}, {.allow_unused = true})[0];
  return gradient.defined() ? gradient : at::zeros_like(x);
}

bool counts_units(RankBy by) {
  return by == RankBy::unit_knockout || by == RankBy::weight_knockout;
}

class Influence {
 public:
  Influence(const Network& network, const TargetLayer& layer, RankBy by, const search::SearchInputs& inputs,
            const Stop& stop, int64_t batch)
      : network_(network),
        layer_(layer),
        by_(by),
        inputs_(inputs),
        stop_(stop),
        silenced_(silenced_node(network, layer)),
        cut_(network.cut_before(layer.node)),
        behind_layer_(network, layer.node),
        behind_silenced_(network, silenced_),
        kernel_(network.parameters()[layer.weight].value.detach()) {
    wanted_ = {layer.input, layer.node, silenced_};
    for (const std::vector<NodeId>& ids :
         {cut_.live, behind_layer_.skip_inputs(), behind_silenced_.skip_inputs()}) {
      wanted_.insert(wanted_.end(), ids.begin(), ids.end());
    }
    std::sort(wanted_.begin(), wanted_.end());
    wanted_.erase(std::unique(wanted_.begin(), wanted_.end()), wanted_.end());
    together_ = search::candidates_together(network, layer.node, batch, int64_t{1} << 20);
  }

  // Adds one slab; false when stopped on the way, `sums` is then as before.
  bool add(const at::Tensor& numbers, InfluenceSums& sums) {
    {
      const at::NoGradGuard no_grad;
      values_ = network_.activations(inputs_.load(numbers), wanted_);
      labels_ = inputs_.labels().index_select(0, numbers).to(network_.device());
    }
    InfluenceSums more = sums;
    more.inputs += numbers.size(0);
    if (counts_units(by_)) {
      const at::NoGradGuard no_grad;
      more.correct += correct_with(behind_silenced_, value_of(silenced_).unsqueeze(0)).item<int64_t>();
      if (!knock_out_units(more.unit_correct)) return false;
      if (by_ == RankBy::weight_knockout && !knock_out_weights(more.weight_correct)) return false;
    }
    add_gradients(more);
    sums = std::move(more);
    return true;
  }

 private:
  const at::Tensor& value_of(NodeId id) const {
    return values_[static_cast<size_t>(std::lower_bound(wanted_.begin(), wanted_.end(), id) -
                                       wanted_.begin())];
  }
  std::vector<at::Tensor> values_of(const std::vector<NodeId>& ids) const {
    std::vector<at::Tensor> values;
    for (const NodeId id : ids) values.push_back(value_of(id));
    return values;
  }
  bool stopped() const { return stop_.requested(); }

  // Correct inputs for each of K values of a node: int64 (K), CPU.
  at::Tensor correct_with(const search::Suffix& rest, const at::Tensor& values) const {
    const at::Tensor logits = rest.logits(values, values_of(rest.skip_inputs()));
    return logits.argmax(2).eq(labels_).sum(1).cpu();
  }

  static void add_to(at::Tensor& sum, const at::Tensor& more) { sum = sum.defined() ? sum + more : more; }

  // Many copies of the slab's output at once, one channel of each set to zero.
  bool knock_out_units(at::Tensor& sum) const {
    const at::Tensor output = value_of(silenced_).unsqueeze(0);
    std::vector<at::Tensor> parts;
    for (const at::Tensor& units : at::arange(kernel_.size(0)).split(together_)) {
      if (stopped()) return false;
      const at::Tensor copies = copies_of(output, units.size(0));
      copies.transpose(1, 2).index_put_(
          {at::arange(units.size(0), output.device()), units.to(output.device())},
          at::zeros({}, output.options()));
      parts.push_back(correct_with(behind_silenced_, copies));
    }
    add_to(sum, at::cat(parts));
    return true;
  }

  // A weight's removal takes its product with the input it reads away from its unit's output.
  bool knock_out_weights(at::Tensor& sum) const {
    const at::Tensor output = value_of(layer_.node).unsqueeze(0);
    const at::Tensor read = values_read();  // (row of the kernel, N, positions...)
    const at::Tensor weights = kernel_.reshape(-1);
    const int64_t row = kernel_.numel() / kernel_.size(0);
    std::vector<at::Tensor> parts;
    for (const at::Tensor& indices : at::arange(kernel_.numel(), kernel_.device()).split(together_)) {
      if (stopped()) return false;
      const int64_t count = indices.size(0);
      const at::Tensor copies = copies_of(output, count);
      std::vector<int64_t> broadcast(static_cast<size_t>(read.dim()), 1);
      broadcast[0] = count;
      const at::Tensor taken =
          weights.index_select(0, indices).view(broadcast) * read.index_select(0, indices.remainder(row));
      const c10::List<std::optional<at::Tensor>> places(
          {at::arange(count, indices.options()), indices.div(row, "floor")});  // distinct
      const at::Tensor units = copies.transpose(1, 2);
      units.index_put_(places, units.index(places) - taken);
      parts.push_back(correct_with(behind_layer_, copies));
    }
    add_to(sum, at::cat(parts));
    return true;
  }

  // What each weight of a unit's row reads at every position of the output.
  at::Tensor values_read() const {
    const at::Tensor& x = value_of(layer_.input);
    if (!layer_.convolution) return x.t();
    const auto& conv =
        std::get<ConvAttributes>(network_.nodes()[static_cast<size_t>(layer_.node)].attributes);
    const at::Tensor columns = at::im2col(x, kernel_.sizes().slice(2), conv.dilation, conv.padding,
                                          conv.stride);  // (N, row, positions)
    const at::Tensor& y = value_of(layer_.node);
    return columns.transpose(0, 1).unflatten(2, {y.size(2), y.size(3)});
  }

  static at::Tensor copies_of(const at::Tensor& output, int64_t count) {
    std::vector<int64_t> shape = output.sizes().vec();
    shape[0] = count;
    return output.expand(shape).clone(at::MemoryFormat::Contiguous);
  }

  at::Tensor loss(const at::Tensor& logits) const {
    return at::cross_entropy_loss(logits, labels_, {}, at::Reduction::Sum);
  }

  void add_gradients(InfluenceSums& sums) const {
    const at::AutoGradMode with_grad(true);
    const at::Tensor kernel = kernel_.clone().requires_grad_(true);
    const at::Tensor logits = network_.suffix(cut_, values_of(cut_.live), {{layer_.weight, kernel}});
    add_to(sums.kernel_gradient, gradient_of(loss(logits), kernel).to(at::kCPU, at::kDouble));

    const at::Tensor output = value_of(silenced_).detach().clone().requires_grad_(true);
    const at::Tensor rest =
        behind_silenced_.logits(output.unsqueeze(0), values_of(behind_silenced_.skip_inputs()));
    const at::Tensor gradient = gradient_of(loss(rest[0]), output);
    const at::Tensor product =
        (output.detach() * gradient.detach()).to(at::kDouble).transpose(0, 1).flatten(1);
    add_to(sums.unit_gradient, product.sum(1).cpu());
  }

  const Network& network_;
  const TargetLayer& layer_;
  RankBy by_;
  const search::SearchInputs& inputs_;
  const Stop& stop_;
  NodeId silenced_;
  Cut cut_;
  search::Suffix behind_layer_, behind_silenced_;
  at::Tensor kernel_;
  std::vector<NodeId> wanted_;      // ascending
  std::vector<at::Tensor> values_;  // of `wanted_`, for the slab at hand
  at::Tensor labels_;
  int64_t together_ = 1;
};

std::vector<double> sizes_of(const at::Tensor& values) {
  const at::Tensor flat = values.to(at::kCPU, at::kDouble).abs().contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

// Numbers 0..n-1 of the first `count`, by `first` descending, then `second` descending, then ascending.
std::vector<int64_t> order_of(const std::vector<double>& first, const std::vector<double>& second,
                              int64_t count) {
  std::vector<int64_t> order(first.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto end = order.begin() + std::min<int64_t>(count, static_cast<int64_t>(order.size()));
  std::partial_sort(order.begin(), end, order.end(), [&](int64_t a, int64_t b) {
    const auto x = static_cast<size_t>(a), y = static_cast<size_t>(b);
    if (first[x] != first[y]) return first[x] > first[y];
    return second[x] != second[y] ? second[x] > second[y] : a < b;
  });
  order.erase(end, order.end());
  return order;
}

}  // namespace

double knockout_passes(const Network& network, const TargetLayer& layer) {
  const NodeId silenced = silenced_node(network, layer);
  graph::Marks behind(network.nodes().size(), 0);
  behind[static_cast<size_t>(silenced)] = 1;
  behind = graph::dependents_of(network.nodes(), std::move(behind));
  double rest = 0, all = 0;
  for (NodeId id = 1; id <= network.logits_node(); ++id) {
    const double cost = operations(network, network.nodes()[static_cast<size_t>(id)]);
    all += cost;
    if (id != silenced && behind[static_cast<size_t>(id)]) rest += cost;
  }
  return static_cast<double>(network.parameters()[layer.weight].value.size(0)) * rest / all;
}

RankBy rank_by(const std::string& rank, const Network& network, const TargetLayer& layer, double maximum) {
  if (rank == "taylor") return RankBy::taylor;
  if (rank == "knockout") return RankBy::weight_knockout;
  if (rank == "magnitude") return RankBy::magnitude;
  return knockout_passes(network, layer) > maximum ? RankBy::taylor : RankBy::unit_knockout;
}

void InfluenceSums::save(std::map<std::string, at::Tensor>& tensors) const {
  tensors["influence.position"] = at::tensor(std::vector<int64_t>{inputs, correct}, at::kLong);
  const auto keep = [&](const char* name, const at::Tensor& tensor) {
    if (tensor.defined()) tensors[name] = tensor;
  };
  keep("influence.unit_correct", unit_correct);
  keep("influence.weight_correct", weight_correct);
  keep("influence.kernel_gradient", kernel_gradient);
  keep("influence.unit_gradient", unit_gradient);
}

InfluenceSums InfluenceSums::load(const std::map<std::string, at::Tensor>& tensors) {
  const auto find = [&](const char* name) {
    const auto found = tensors.find(name);
    return found == tensors.end() ? at::Tensor() : found->second;
  };
  InfluenceSums sums;
  if (const at::Tensor position = find("influence.position"); position.defined()) {
    sums.inputs = position.const_data_ptr<int64_t>()[0];
    sums.correct = position.const_data_ptr<int64_t>()[1];
  }
  sums.unit_correct = find("influence.unit_correct");
  sums.weight_correct = find("influence.weight_correct");
  sums.kernel_gradient = find("influence.kernel_gradient");
  sums.unit_gradient = find("influence.unit_gradient");
  return sums;
}

bool add_influence(const Network& network, const TargetLayer& layer, RankBy by,
                   const search::SearchInputs& inputs, int64_t batch, const Stop& stop,
                   const std::function<void()>& after_slab, InfluenceSums& sums) {
  if (by == RankBy::magnitude) return true;
  Influence influence(network, layer, by, inputs, stop, batch);
  while (sums.inputs < inputs.size()) {
    if (stop.requested()) return false;
    const int64_t end = std::min(inputs.size(), sums.inputs + batch);
    if (!influence.add(at::arange(sums.inputs, end), sums)) return false;
    if (after_slab) after_slab();
  }
  return true;
}

LayerRanking rank_layer(const Network& network, const TargetLayer& layer, RankBy by,
                        const InfluenceSums& sums, int64_t window) {
  const at::Tensor kernel = network.parameters()[layer.weight].value.detach().cpu();
  const int64_t units = kernel.size(0), row = kernel.numel() / units;
  std::vector<double> unit(static_cast<size_t>(units)), weight(static_cast<size_t>(kernel.numel()));
  std::vector<double> estimate;  // of removing a weight
  if (by == RankBy::magnitude) {
    unit = sizes_of(kernel.flatten(1).to(at::kDouble).norm(2, 1));
    estimate = sizes_of(kernel);
  } else {
    estimate = sizes_of(kernel.to(at::kDouble) * sums.kernel_gradient);
    unit = by == RankBy::taylor ? sizes_of(sums.unit_gradient) : sizes_of(sums.correct - sums.unit_correct);
  }
  if (by == RankBy::weight_knockout) {
    weight = sizes_of(sums.correct - sums.weight_correct);
  } else if (by == RankBy::unit_knockout) {
    for (size_t k = 0; k < weight.size(); ++k) weight[k] = unit[k / static_cast<size_t>(row)];
  }
  return {order_of(weight, estimate, window), order_of(unit, std::vector<double>(unit.size()), units)};
}

}  // namespace harness::locate
