#include "approaches/locate/impact.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/batches.hpp"
#include "harness/model/autograd.hpp"

namespace harness::locate {
namespace {

// a / b, and 0 wherever b is 0.
at::Tensor share(const at::Tensor& a, const at::Tensor& b) {
  return at::where(b > 0, a / at::where(b > 0, b, at::ones_like(b)), at::zeros_like(a));
}

// Columns (..., C*kh*kw, positions) of the patches that each output position sees.
at::Tensor patches(const at::Tensor& x, const ConvAttributes& conv, const at::Tensor& kernel) {
  return at::im2col(x, kernel.sizes().slice(2), conv.dilation, conv.padding, conv.stride);
}

class Localisation {
 public:
  Localisation(const Network& network, const std::vector<TargetLayer>& layers, const Split& split,
               const ImpactSettings& settings)
      : network_(network.fork()), layers_(layers), split_(split), settings_(settings) {
    network_.require_grad(true);
    ids_.push_back(network_.logits_node());
    for (const TargetLayer& layer : layers_) {
      ids_.push_back(layer.input);
      ids_.push_back(layer.behind);
      kernels_.push_back(network_.parameters()[layer.weight].value);
    }
    std::sort(ids_.begin(), ids_.end());
    ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
    gradients_.resize(layers_.size());
    behind_.resize(layers_.size());
    front_.resize(layers_.size());
  }

  std::vector<WeightScores> run(const std::vector<int64_t>& samples) {
    count_ = static_cast<double>(samples.size());
    const InputSet inputs{&split_, samples};
    const auto pass = [&](void (Localisation::*see)(const Batch&)) {
      for_each_batch(network_, inputs, settings_.batching, [&](const Batch& batch) { (this->*see)(batch); });
    };
    pass(&Localisation::first_pass);
    for (at::Tensor& behind : behind_) behind = behind / count_;
    if (settings_.conv_per_sample) pass(&Localisation::second_pass);
    std::vector<WeightScores> scores;
    for (size_t l = 0; l < layers_.size(); ++l) {
      scores.push_back({gradients_[l].abs().cpu(), forward_impact(l).cpu()});
    }
    return scores;
  }

 private:
  const at::Tensor& value_of(const std::vector<at::Tensor>& values, NodeId id) const {
    return values[std::lower_bound(ids_.begin(), ids_.end(), id) - ids_.begin()];
  }
  at::Tensor kernel_size_of(size_t l) const { return kernels_[l].detach().to(at::kDouble).abs(); }
  const ConvAttributes& conv_of(size_t l) const {
    return std::get<ConvAttributes>(network_.nodes()[layers_[l].node].attributes);
  }
  static void add_to(at::Tensor& sum, const at::Tensor& more) { sum = sum.defined() ? sum + more : more; }

  // Sums of the gradients, of the shares behind the layers, and of what the shares in front of them need.
  void first_pass(const Batch& batch) {
    const at::AutoGradMode with_grad(true);
    const at::Tensor labels = batch.labels.to(network_.device());
    const std::vector<at::Tensor> values = network_.activations(batch.x, ids_);
    at::Tensor output = value_of(values, network_.logits_node());
    if (settings_.compat_softmax && network_.ends_in_softmax()) output = output.softmax(1);
    const at::Tensor loss = at::cross_entropy_loss(output, labels, {}, at::Reduction::Sum);

    const auto gradients = grad({loss}, kernels_, {}, {.retain_graph = true, .allow_unused = true});
    for (size_t l = 0; l < layers_.size(); ++l) {
      add_to(gradients_[l], gradients[l].defined()
                                ? gradients[l].detach().to(at::kDouble)
                                : at::zeros(kernels_[l].sizes(), kernels_[l].options().dtype(at::kDouble)));
    }
    sum_behind(values, output);
    for (size_t l = 0; l < layers_.size(); ++l) sum_front(l, value_of(values, layers_[l].input).detach());
  }

  void sum_behind(const std::vector<at::Tensor>& values, const at::Tensor& output) {
    std::vector<at::Tensor> behind;
    for (const TargetLayer& layer : layers_) {
      if (layer.behind != network_.logits_node()) behind.push_back(value_of(values, layer.behind));
    }
    const std::vector<at::Tensor> gradients =
        behind.empty() ? std::vector<at::Tensor>() : grad({output.sum()}, behind, {}, {.allow_unused = true});
    size_t next = 0;
    for (size_t l = 0; l < layers_.size(); ++l) {
      const at::Tensor& value = value_of(values, layers_[l].behind);
      at::Tensor gradient = at::zeros_like(value, value.options().dtype(at::kDouble));
      if (layers_[l].behind == network_.logits_node()) {
        gradient = at::ones_like(gradient);  // the layer's output is f itself
      } else if (const at::Tensor& found = gradients[next++]; found.defined()) {
        gradient = found.detach().to(at::kDouble).abs();
      }
      const at::Tensor flat = gradient.flatten(1);
      add_to(behind_[l], share(flat, flat.sum(1, /*keepdim=*/true).expand_as(flat)).sum(0));
    }
  }

  void sum_front(size_t l, const at::Tensor& input) {
    const at::Tensor x = input.to(at::kDouble).abs();
    if (layers_[l].convolution) {
      if (!settings_.conv_per_sample) add_to(front_[l], x.sum(0, /*keepdim=*/true));
      return;
    }
    const at::Tensor totals = x.matmul(kernel_size_of(l).t());  // (N, out)
    add_to(front_[l], share(at::ones_like(totals), totals).t().matmul(x));
  }

  // Sum over inputs and positions of |x| times behind / (total of the input at the position): the gradient of
  // a convolution's kernel with that quotient as the gradient of its output.
  void second_pass(const Batch& batch) {
    const at::NoGradGuard no_grad;
    const std::vector<at::Tensor> values = network_.activations(batch.x, ids_);
    for (size_t l = 0; l < layers_.size(); ++l) {
      if (!layers_[l].convolution) continue;
      const at::Tensor kernel = kernel_size_of(l);
      const at::Tensor columns =
          patches(value_of(values, layers_[l].input).to(at::kDouble).abs(), conv_of(l), kernel);  // (N, q, p)
      const at::Tensor totals = kernel.flatten(1).matmul(columns);  // (N, out, p)
      const at::Tensor quotient = share(behind_[l].view({1, kernel.size(0), -1}).expand_as(totals), totals);
      add_to(front_[l], quotient.matmul(columns.transpose(1, 2)).sum(0));  // (out, q)
    }
  }

  at::Tensor forward_impact(size_t l) const {
    const at::Tensor kernel = kernel_size_of(l);
    if (!layers_[l].convolution) return kernel * front_[l] / count_ * behind_[l].unsqueeze(1);
    if (settings_.conv_per_sample) return kernel * front_[l].view_as(kernel) / count_;
    const at::Tensor columns = patches(front_[l], conv_of(l), kernel)[0];  // (q, p)
    const at::Tensor totals = kernel.flatten(1).matmul(columns);           // (out, p)
    const at::Tensor quotient = share(behind_[l].view_as(totals), totals);
    return kernel * quotient.matmul(columns.t()).view_as(kernel) / count_;
  }

  Network network_;
  const std::vector<TargetLayer>& layers_;
  const Split& split_;
  const ImpactSettings& settings_;
  std::vector<NodeId> ids_;
  std::vector<at::Tensor> kernels_;
  double count_ = 0;
  std::vector<at::Tensor> gradients_;  // of each layer's kernel, summed
  std::vector<at::Tensor> behind_;     // (units * positions), summed, then the mean
  std::vector<at::Tensor> front_;      // dense: (out, in); convolution: (1,C,H,W), or (out, q) per sample
};

}  // namespace

std::vector<WeightScores> weight_scores(const Network& network, const std::vector<TargetLayer>& layers,
                                        const Split& split, const std::vector<int64_t>& samples,
                                        const ImpactSettings& settings) {
  if (!samples.empty()) return Localisation(network, layers, split, settings).run(samples);
  std::vector<WeightScores> scores;
  for (const TargetLayer& layer : layers) {
    const at::Tensor none = at::zeros(network.parameters()[layer.weight].value.sizes(), at::kDouble);
    scores.push_back({none, none});
  }
  return scores;
}

}  // namespace harness::locate
