#include "approaches/regions/linear_regions.hpp"

#include <ATen/ATen.h>

namespace harness::regions {

std::vector<at::Tensor> activation_patterns(const DenseHead& head, const at::Tensor& features) {
  std::vector<at::Tensor> patterns;
  at::Tensor x = features;
  for (const DenseLayer& layer : head.hidden) {
    const at::Tensor z = at::linear(x, layer.weight, layer.bias);
    patterns.push_back(z.ge(0));
    x = at::where(patterns.back(), z, z * layer.slope);
  }
  return patterns;
}

at::Tensor undisputed(const std::vector<at::Tensor>& patterns, const std::vector<int64_t>& labels) {
  const at::Tensor all = at::cat(patterns, 1), label = at::tensor(labels, at::kLong);
  std::vector<int64_t> kept;
  for (int64_t t = 0; t < all.size(0); ++t) {
    const at::Tensor same = all.slice(0, t + 1).eq(all[t]).all(1);
    if (!same.logical_and(label.slice(0, t + 1).ne(label[t])).any().item<bool>()) kept.push_back(t);
  }
  return at::tensor(kept, at::kLong);
}

LinearRegions linear_regions(const DenseHead& head, const at::Tensor& features) {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> patterns = activation_patterns(head, features);
  const int64_t count = features.size(0);
  // z of the current layer as a function of the features: weight x + bias.
  at::Tensor weight = head.hidden[0].weight.expand({count, -1, -1});
  at::Tensor bias = head.hidden[0].bias.expand({count, -1});
  std::vector<at::Tensor> rows, bounds;
  for (size_t l = 0; l < head.hidden.size(); ++l) {
    // z >= 0 is -weight x <= bias, and z < 0 is weight x <= -bias (closed, as neighbours agree on the
    // border).
    const at::Tensor sign = 1 - 2 * patterns[l].to(at::kDouble);
    rows.push_back(sign.unsqueeze(2) * weight);
    bounds.push_back(-sign * bias);
    const at::Tensor slope =
        at::where(patterns[l], at::ones({}, at::kDouble), at::full({}, head.hidden[l].slope, at::kDouble));
    const DenseLayer& next = l + 1 < head.hidden.size() ? head.hidden[l + 1] : head.output;
    weight = at::matmul(next.weight, slope.unsqueeze(2) * weight);
    bias = at::linear(slope * bias, next.weight, next.bias);
  }
  return {at::cat(rows, 1), at::cat(bounds, 1), weight, bias};
}

}  // namespace harness::regions
