#include "approaches/locate/regressions.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "approaches/batches.hpp"
#include "harness/core/error.hpp"
#include "harness/model/autograd.hpp"
namespace harness::locate {
namespace {

// What a set of inputs says of one layer's weights, both float64 on the CPU.
struct Scores {
  at::Tensor backward, forward;
  double mean_forward = 0;
};

class Ranking {
 public:
  Ranking(const Network& network, const std::vector<TargetLayer>& layers, const Split& split,
          const RegressionSettings& settings)
      : network_(network.fork()), layers_(layers), split_(split), settings_(settings) {
    network_.require_grad(true);
    ids_.push_back(network_.logits_node());
    for (const TargetLayer& layer : layers_) {
      ids_.push_back(layer.input);
      kernels_.push_back(network_.parameters()[layer.weight].value);
    }
    std::sort(ids_.begin(), ids_.end());
    ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
  }

  // Backward and forward. Without inputs nothing matters: where the reference has NaN there is 0.
  std::vector<Scores> scores(const std::vector<int64_t>& inputs) const {
    std::vector<at::Tensor> gradients, sizes;  // sums of the gradients; of |o|, (inputs of the layer)
    for (const at::Tensor& kernel : kernels_) {
      gradients.push_back(at::zeros(kernel.sizes(), kernel.options().dtype(at::kDouble)));
      sizes.push_back(at::zeros({kernel.size(1)}, kernel.options().dtype(at::kDouble)));
    }
    for_each_batch(network_, InputSet{&split_, inputs}, settings_.batching,
                   [&](const Batch& batch) { add(batch, gradients, sizes); });
    std::vector<Scores> found;
    const double count = std::max<double>(1, static_cast<double>(inputs.size()));
    double total = 0;
    for (size_t l = 0; l < layers_.size(); ++l) {
      const at::Tensor kernel = kernels_[l].detach().to(at::kDouble).abs();
      const at::Tensor forward = (kernel * (sizes[l] / count)).cpu();  // mean |o_i w| is mean |o_i| times |w|
      found.push_back({gradients[l].abs().cpu(), forward, forward.mean().item<double>()});
      total += found.back().mean_forward;
    }
    for (Scores& of_layer : found) of_layer.mean_forward /= total > 0 ? total : 1;
    return found;
  }

 private:
  void add(const Batch& batch, std::vector<at::Tensor>& gradients, std::vector<at::Tensor>& sizes) const {
    const at::AutoGradMode with_grad(true);
    const std::vector<at::Tensor> values = network_.activations(batch.x, ids_);
    at::Tensor logits = value_of(values, network_.logits_node());
    at::Tensor of;
    if (settings_.backward == "loss") {
      of = at::cross_entropy_loss(logits, batch.labels.to(network_.device()), {}, at::Reduction::Sum);
    } else if (settings_.backward == "compat" && network_.ends_in_softmax()) {
      of = logits.softmax(1).sum();  // always the number of inputs: its gradient is rounding
    } else if (settings_.backward == "compat" || settings_.backward == "logit_sum") {
      of = logits.sum();
    } else {
      interface_misuse("unknown backward score: " + settings_.backward);
    }
    const auto found = grad({of}, kernels_, {}, {.allow_unused = true});
    for (size_t l = 0; l < layers_.size(); ++l) {
      if (found[l].defined()) gradients[l] += found[l].detach().to(at::kDouble);
      sizes[l] += value_of(values, layers_[l].input).detach().to(at::kDouble).abs().sum(0);
    }
  }

  const at::Tensor& value_of(const std::vector<at::Tensor>& values, NodeId id) const {
    return values[static_cast<size_t>(std::lower_bound(ids_.begin(), ids_.end(), id) - ids_.begin())];
  }

  Network network_;
  const std::vector<TargetLayer>& layers_;
  const Split& split_;
  const RegressionSettings& settings_;
  std::vector<NodeId> ids_;
  std::vector<at::Tensor> kernels_;
};

// The change of every tensor that shares it: all trainable ones, whatever their layer, so that batch norm
// takes its share and shifts no numbering; or the kernels of the dense layers alone.
class Changes {
 public:
  Changes(const Network& network, const std::map<std::string, at::Tensor>& before,
          const std::vector<TargetLayer>& layers, const std::string& over)
      : network_(network), before_(before) {
    if (over != "all" && over != "dense_kernels") interface_misuse("unknown share of the change: " + over);
    for (size_t id = 0; id < network.parameters().size(); ++id) {
      const Parameter& parameter = network.parameters()[id];
      if (!parameter.trainable || parameter.value.numel() == 0) continue;
      const bool is_dense =
          std::ranges::count(layers, static_cast<ParameterId>(id), &TargetLayer::weight) > 0;
      if (over == "dense_kernels" && !is_dense) continue;
      total_ += of(parameter).mean().item<double>();
      ++tensors_;
    }
  }
  int64_t tensors() const { return tensors_; }
  at::Tensor of(ParameterId id) const { return of(network_.parameters()[id]); }
  double share(const at::Tensor& change) const {
    return total_ > 0 ? change.mean().item<double>() / total_ : 0;
  }

 private:
  at::Tensor of(const Parameter& parameter) const {
    const at::Tensor after = parameter.value.detach().to(at::kCPU, at::kDouble);
    return (after - before_.at(parameter.name).to(at::kCPU, at::kDouble)).abs();
  }

  const Network& network_;
  const std::map<std::string, at::Tensor>& before_;
  double total_ = 0;
  int64_t tensors_ = 0;
};

// One dense layer: its scores, and which of its weights they leave at any rate.
class Suspects {
 public:
  Suspects(ParameterId kernel, Scores worse, Scores better, at::Tensor change, double share, bool any_better)
      : kernel_(kernel),
        worse_(std::move(worse)),
        better_(std::move(better)),
        change_(std::move(change)),
        any_better_(any_better) {
    const double phi = worse_.mean_forward;
    suspicion_ = phi == 0 ? 0 : phi / (phi + better_.mean_forward) * share;
    if (!(suspicion_ > 0)) suspicion_ = 0;  // nor where it is not a number
  }

  int64_t considered(double rate) const {
    if (suspicion_ == 0) return 0;
    const auto size = static_cast<double>(change_.numel());
    return static_cast<int64_t>(std::min(size, std::nearbyint(size * suspicion_ * rate)));
  }
  int64_t most() const { return suspicion_ > 0 ? change_.numel() : 0; }  // whatever the rate

  // Those left among the `count` largest; 0 for none.
  std::vector<WeightRef> among(int64_t count) const {
    std::vector<WeightRef> left;
    if (count == 0) return left;
    const at::Tensor of_worse = among_largest(worse_.forward, count) * among_largest(worse_.backward, count);
    at::Tensor chosen = of_worse * among_largest(change_, count);
    // An empty set of improved inputs ranks nothing.
    if (any_better_)
      chosen *= 1 - among_largest(better_.forward, count) * among_largest(better_.backward, count);
    const at::Tensor places = chosen.nonzero().flatten();
    for (int64_t k = 0; k < places.numel(); ++k)
      left.push_back({kernel_, places.const_data_ptr<int64_t>()[k]});
    return left;
  }

 private:
  ParameterId kernel_;
  Scores worse_, better_;
  at::Tensor change_;
  bool any_better_;
  double suspicion_ = 0;
};

// What one rate leaves of all layers.
RegressionWeights left_at(double rate, const std::vector<Suspects>& suspects) {
  RegressionWeights found{.rate = rate};
  for (const Suspects& of_layer : suspects) {
    found.considered.push_back(of_layer.considered(rate));
    const std::vector<WeightRef> left = of_layer.among(found.considered.back());
    found.localised.push_back(std::ssize(left));
    found.weights.insert(found.weights.end(), left.begin(), left.end());
  }
  return found;
}

// The next doubling of a rate with which any layer considers more; 0 where none ever does.
double next_rate(double rate, const RegressionWeights& so_far, const std::vector<Suspects>& suspects) {
  bool all_considered = true;
  for (size_t l = 0; l < suspects.size(); ++l) all_considered &= so_far.considered[l] == suspects[l].most();
  if (all_considered || rate <= 0) return 0;
  for (;;) {
    rate *= 2;
    for (size_t l = 0; l < suspects.size(); ++l) {
      if (suspects[l].considered(rate) != so_far.considered[l]) return rate;
    }
  }
}

}  // namespace

at::Tensor among_largest(const at::Tensor& scores, int64_t count) {
  constexpr double kMin = -std::numeric_limits<double>::infinity();
  const at::Tensor flat = at::where(scores.isnan(), kMin, scores).flatten().contiguous();
  const double* const score = flat.const_data_ptr<double>();
  at::Tensor chosen = at::zeros({flat.numel()}, at::kByte);
  uint8_t* const mark = chosen.data_ptr<uint8_t>();
  if (count <= 0) return chosen;
  if (count >= flat.numel()) return chosen.fill_(1);
  std::vector<double> order(score, score + flat.numel());
  std::nth_element(order.begin(), order.begin() + (count - 1), order.end(), std::greater<>());
  const double threshold = order[static_cast<size_t>(count - 1)];
  int64_t ties = count;  // left for those equal to the least
  for (int64_t k = 0; k < flat.numel(); ++k) {
    mark[k] = score[k] > threshold ? 1 : 0;
    ties -= mark[k];
  }
  for (int64_t k = 0; ties > 0; ++k) {
    if (score[k] != threshold) continue;
    mark[k] = 1;
    --ties;
  }
  return chosen;
}

RegressionWeights regression_weights(const Network& network, const std::map<std::string, at::Tensor>& before,
                                     const std::vector<TargetLayer>& layers, const Split& split,
                                     const EpochEffect& effect, const RegressionSettings& settings) {
  const Changes changes(network, before, layers, settings.delta_over);
  const Ranking ranking(network, layers, split, settings);
  std::vector<Scores> worse = ranking.scores(effect.regressed), better = ranking.scores(effect.improved);
  std::vector<Suspects> suspects;
  for (size_t l = 0; l < layers.size(); ++l) {
    const at::Tensor change = changes.of(layers[l].weight);
    suspects.emplace_back(layers[l].weight, std::move(worse[l]), std::move(better[l]), change,
                          changes.share(change), !effect.improved.empty());
  }
  RegressionWeights found = left_at(settings.reduction_rate, suspects);
  while (settings.widen && found.weights.empty()) {
    settings.batching.stop.check();
    const double rate = next_rate(found.rate, found, suspects);
    if (rate == 0) break;
    found = left_at(rate, suspects);
  }
  found.tensors = changes.tensors();
  return found;
}

}  // namespace harness::locate
