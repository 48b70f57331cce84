#include "approaches/locate/interventions.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/search/suffix.hpp"
#include "harness/core/error.hpp"
#include "harness/model/graph.hpp"
#include "harness/model/memory_class.hpp"

namespace harness::locate {
namespace {

// Values of the widest node behind, of all interventions at once; on the CPU.
constexpr int64_t kTogetherOnCpu = int64_t{1} << 21;

class Interventions {
 public:
  Interventions(const Network& network, const std::vector<TargetLayer>& layers,
                const search::SearchInputs& inputs, const InterventionSettings& settings)
      : network_(network), inputs_(inputs), settings_(settings) {
    for (const TargetLayer& target : layers) {
      Layer layer{.target = target, .rest = search::Suffix(network, target.node)};
      layer.widest = std::max(layer.widest, graph::max_value_count(network.nodes(), target.node));
      layers_.push_back(std::move(layer));
    }
  }

  std::vector<UnitEffects> run() {
    find_ranges();
    const at::Tensor negatives = inputs_.negative().nonzero().flatten();
    const std::vector<at::Tensor> parts = negatives.split(settings_.batch);
    for (const Layer& layer : layers_) {
      total_ += static_cast<double>(parts.size()) * static_cast<double>(layer.low.numel());
    }
    for (const at::Tensor& part : parts) {
      if (!add(part)) return {};
    }
    std::vector<UnitEffects> found;
    for (const Layer& layer : layers_) {
      found.push_back({layer.low.cpu(), layer.high.cpu(),
                       (layer.sums / negatives.numel()).view({-1, settings_.values}).cpu()});
    }
    return found;
  }

 private:
  struct Layer {
    TargetLayer target;
    search::Suffix rest;
    int64_t widest = 1;              // values of one image at the widest node from the layer on
    at::Tensor low = {}, high = {};  // (units), on the device
    at::Tensor forced = {};          // (units * values): what each intervention sets its unit to
    at::Tensor columns = {};         // (units, outputs) of the kernel
    at::Tensor sums = {};            // (units * values), float64
  };

  void find_ranges() {
    const std::vector<NodeId> ids =
        nodes_of([](const Layer& layer) { return std::vector<NodeId>{layer.target.input}; });
    for (const at::Tensor& part : at::arange(inputs_.size()).split(settings_.batch)) {
      const std::vector<at::Tensor> values = network_.activations(inputs_.load(part), ids);
      for (Layer& layer : layers_) {
        const at::Tensor& units = value_of(values, ids, layer.target.input);
        const at::Tensor low = units.amin(0), high = units.amax(0);
        layer.low = layer.low.defined() ? at::minimum(layer.low, low) : low;
        layer.high = layer.high.defined() ? at::maximum(layer.high, high) : high;
      }
    }
    for (Layer& layer : layers_) {
      const at::Tensor steps =
          at::arange(settings_.values, layer.low.options()) / static_cast<double>(settings_.values - 1);
      layer.forced = (layer.low.unsqueeze(1) + (layer.high - layer.low).unsqueeze(1) * steps).flatten();
      layer.columns = network_.parameters()[layer.target.weight].value.detach().t().contiguous();
      layer.sums = at::zeros(layer.forced.sizes(), layer.forced.options().dtype(at::kDouble));
    }
  }

  bool add(const at::Tensor& part) {
    const std::vector<NodeId> ids = nodes_of([](const Layer& layer) {
      std::vector<NodeId> needed = layer.rest.skip_inputs();
      needed.insert(needed.end(), {layer.target.input, layer.target.node});
      return needed;
    });
    const std::vector<at::Tensor> values = network_.activations(inputs_.load(part), ids);
    const at::Tensor labels = inputs_.labels().index_select(0, part).to(network_.device());
    for (Layer& layer : layers_) {
      const at::Tensor& units = value_of(values, ids, layer.target.input);
      std::vector<at::Tensor> skip_inputs;
      for (const NodeId id : layer.rest.skip_inputs()) skip_inputs.push_back(value_of(values, ids, id));
      const int64_t all = layer.forced.numel();
      const int64_t together = values_together(network_.device(), kTogetherOnCpu);
      const int64_t step = std::max<int64_t>(1, together / (part.numel() * layer.widest));
      for (int64_t begin = 0; begin < all; begin += step) {
        const int64_t end = std::min(all, begin + step);
        if (settings_.go_on && !settings_.go_on(done_ / total_)) return false;
        const at::Tensor unit = at::arange(begin, end, labels.options()).floor_divide(settings_.values);
        // Forcing unit i to b moves the layer's output by (b - h_i) W[:, i].
        const at::Tensor by =
            layer.forced.slice(0, begin, end).unsqueeze(1) - units.index_select(1, unit).t();
        const at::Tensor moved =
            at::addcmul(value_of(values, ids, layer.target.node).unsqueeze(0), by.unsqueeze(2),
                        layer.columns.index_select(0, unit).unsqueeze(1));
        const at::Tensor label = labels.view({1, -1, 1}).expand({end - begin, -1, 1});
        const at::Tensor right = layer.rest.logits(moved, skip_inputs).softmax(2).gather(2, label).squeeze(2);
        layer.sums.slice(0, begin, end).add_((1 - right).sum(1, /*keepdim=*/false, at::kDouble));
        done_ += static_cast<double>(end - begin) / static_cast<double>(settings_.values);
      }
    }
    return true;
  }

  template <typename Needed>
  std::vector<NodeId> nodes_of(const Needed& needed) const {
    std::vector<NodeId> ids;
    for (const Layer& layer : layers_) {
      const std::vector<NodeId> more = needed(layer);
      ids.insert(ids.end(), more.begin(), more.end());
    }
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    return ids;
  }

  static const at::Tensor& value_of(const std::vector<at::Tensor>& values, const std::vector<NodeId>& ids,
                                    NodeId id) {
    return values[static_cast<size_t>(std::lower_bound(ids.begin(), ids.end(), id) - ids.begin())];
  }

  const Network& network_;
  const search::SearchInputs& inputs_;
  const InterventionSettings& settings_;
  std::vector<Layer> layers_;
  double done_ = 0, total_ = 0;  // units times batches
};

}  // namespace

std::vector<UnitEffects> intervention_effects(const Network& network, const std::vector<TargetLayer>& layers,
                                              const search::SearchInputs& inputs,
                                              const InterventionSettings& settings) {
  if (settings.values < 2) interface_misuse("interventions need both ends of a unit's range");
  const at::NoGradGuard no_grad;
  return Interventions(network, layers, inputs, settings).run();
}

at::Tensor unit_scores(const UnitEffects& unit, const std::string& score) {
  const at::Tensor& effects = unit.effects;
  at::Tensor scores;
  if (score == "range") {
    scores = effects.amax(1) - effects.amin(1);
  } else if (score == "mean_abs_dev") {
    scores = (effects - effects.mean(1, /*keepdim=*/true)).abs().mean(1);
  } else {
    interface_misuse("unknown score of units: " + score);
  }
  // A constant unit has been set to its own value; rounding must not rank it.
  return at::where(unit.high > unit.low, scores, at::zeros_like(scores));
}

}  // namespace harness::locate
