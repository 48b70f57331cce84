#include "approaches/locate/suspicious.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "approaches/batches.hpp"
#include "approaches/search/pareto.hpp"

namespace harness::locate {

std::vector<WeightRef> suspicious_weights(const Network& network, const TargetLayer& layer,
                                          const Split& split, const std::vector<int64_t>& negatives,
                                          const SuspicionSettings& settings) {
  const at::NoGradGuard no_grad;
  const at::Tensor kernel = network.parameters()[layer.weight].value.detach().to(at::kCPU, at::kDouble);
  at::Tensor gradient = at::zeros_like(kernel), size = at::zeros({kernel.size(1)}, at::kDouble);
  for_each_batch(network, InputSet{&split, negatives}, settings.batching, [&](const Batch& batch) {
    const auto values = network.activations(batch.x, {layer.input, layer.node});
    const at::Tensor input = values[0].to(at::kCPU, at::kDouble), label = batch.labels.unsqueeze(1);
    // d CE / d logits = softmax - one-hot
    const at::Tensor loss = values[1]
                                .to(at::kCPU, at::kDouble)
                                .softmax(1)
                                .scatter_add(1, label, at::full(label.sizes(), -1.0, at::kDouble));
    gradient += loss.t().matmul(input);
    if (!settings.first_only) size += input.abs().sum(0) / static_cast<double>(negatives.size());
    if (settings.first_only && batch.begin == 0) size += input[0].abs();
  });
  gradient = gradient.abs().flatten();
  const at::Tensor impact = (kernel.abs() * size.unsqueeze(0)).flatten();
  const int64_t kept = std::min(gradient.numel(), settings.candidates);
  const at::Tensor best = gradient.argsort(/*stable=*/true, 0, /*descending=*/true).slice(0, 0, kept);
  const at::Tensor chosen = std::get<0>(best.sort());
  const at::Tensor scores[] = {gradient.index_select(0, chosen), impact.index_select(0, chosen)};
  const auto span = [](const at::Tensor& score) {
    return std::span<const double>(score.const_data_ptr<double>(), static_cast<size_t>(score.numel()));
  };
  std::vector<WeightRef> weights;
  for (const int64_t k : search::pareto_front(span(scores[0]), span(scores[1]))) {
    weights.push_back({layer.weight, chosen[k].item<int64_t>()});
  }
  return weights;
}

}  // namespace harness::locate
