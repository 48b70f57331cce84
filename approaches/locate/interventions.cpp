#include "approaches/locate/interventions.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "harness/core/error.hpp"
#include "harness/model/graph.hpp"
#include "harness/model/memory_class.hpp"

namespace harness::locate {
namespace {

// Values of the widest node behind, of all interventions at once; on the CPU.
constexpr int64_t kTogetherOnCpu = int64_t{1} << 21;

class Interventions {
 public:
  Interventions(const UnitValues& inputs, const InterventionSettings& settings)
      : network_(inputs.network()), inputs_(inputs), settings_(settings) {
    for (const UnitValues::Layer& of : inputs.layers()) {
      const at::Tensor steps =
          at::arange(settings_.values, of.low.options()) / static_cast<double>(settings_.values - 1);
      Layer layer{.of = of};
      layer.widest = std::max(layer.widest, graph::max_value_count(network_.nodes(), of.target.node));
      layer.forced = (of.low.unsqueeze(1) + (of.high - of.low).unsqueeze(1) * steps).flatten();
      layer.columns = network_.parameters()[of.target.weight].value.detach().t().contiguous();
      layer.sums = at::zeros(layer.forced.sizes(), layer.forced.options().dtype(at::kDouble));
      layers_.push_back(std::move(layer));
    }
  }

  std::vector<UnitEffects> run() {
    const int64_t negatives = inputs_.labels().numel();
    for (const Layer& layer : layers_)
      total_ += static_cast<double>(negatives) * static_cast<double>(layer.forced.numel());
    for (int64_t begin = 0; begin < negatives; begin += settings_.batch) {
      const int64_t end = std::min(negatives, begin + settings_.batch);
      for (Layer& layer : layers_) {
        if (!add(layer, begin, end)) return {};
      }
    }
    std::vector<UnitEffects> found;
    for (const Layer& layer : layers_) {
      found.push_back({layer.of.low.cpu(), layer.of.high.cpu(),
                       (layer.sums / negatives).view({-1, settings_.values}).cpu()});
    }
    return found;
  }

 private:
  struct Layer {
    const UnitValues::Layer& of;
    int64_t widest = 1;       // values of one image at the widest node from the layer on
    at::Tensor forced = {};   // (units * values): what each intervention sets its unit to
    at::Tensor columns = {};  // (units, outputs) of the kernel
    at::Tensor sums = {};     // (units * values), float64
  };

  // The negatives begin .. end - 1.
  bool add(Layer& layer, int64_t begin, int64_t end) {
    const auto part = [&](NodeId id) { return inputs_.value(id).slice(0, begin, end); };
    const int64_t count = end - begin;
    const at::Tensor labels = inputs_.labels().slice(0, begin, end).to(network_.device());
    const at::Tensor units = part(layer.of.target.input).t().contiguous();
    const at::Tensor output = part(layer.of.target.node).unsqueeze(0);
    std::vector<at::Tensor> skip_inputs;
    for (const NodeId id : layer.of.rest.skip_inputs()) skip_inputs.push_back(part(id));
    const int64_t all = layer.forced.numel();
    const int64_t together = values_together(network_.device(), kTogetherOnCpu);
    const int64_t step = std::max<int64_t>(1, together / (count * layer.widest));
    for (int64_t first = 0; first < all; first += step) {
      const int64_t last = std::min(all, first + step);
      if (settings_.go_on && !settings_.go_on(done_ / total_)) return false;
      const at::Tensor unit = at::arange(first, last, labels.options()).floor_divide(settings_.values);
      // Forcing unit i to b moves the layer's output by (b - h_i) W[:, i].
      const at::Tensor by = layer.forced.slice(0, first, last).unsqueeze(1) - units.index_select(0, unit);
      const at::Tensor moved =
          at::addcmul(output, by.unsqueeze(2), layer.columns.index_select(0, unit).unsqueeze(1));
      const at::Tensor label = labels.view({1, -1, 1}).expand({last - first, -1, 1});
      const at::Tensor right =
          layer.of.rest.logits(moved, skip_inputs).softmax(2).gather(2, label).squeeze(2);
      layer.sums.slice(0, first, last).add_((1 - right).sum(1, /*keepdim=*/false, at::kDouble));
      done_ += static_cast<double>(last - first) * static_cast<double>(count);
    }
    return true;
  }

  const Network& network_;
  const UnitValues& inputs_;
  const InterventionSettings& settings_;
  std::vector<Layer> layers_;
  double done_ = 0, total_ = 0;  // interventions times inputs
};

}  // namespace

std::vector<UnitEffects> intervention_effects(const UnitValues& inputs,
                                              const InterventionSettings& settings) {
  if (settings.values < 2) interface_misuse("interventions need both ends of a unit's range");
  const at::NoGradGuard no_grad;
  return Interventions(inputs, settings).run();
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
