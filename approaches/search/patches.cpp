#include "approaches/search/patches.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace harness::search {

PatchMerge::PatchMerge(const Network& original, const std::vector<Patch>& patches) {
  using Key = std::pair<ParameterId, int64_t>;
  std::map<Key, std::vector<double>> values;  // the original's first
  for (const Patch& patch : patches) {
    const std::vector<float> own = read_weights(original, patch.weights);
    for (size_t i = 0; i < own.size(); ++i) {
      auto& of_weight = values[{patch.weights[i].parameter, patch.weights[i].index}];
      if (of_weight.empty()) of_weight.push_back(own[i]);
      of_weight.push_back(patch.values[i]);
    }
  }
  const auto of = [&](const WeightRef& weight) -> const std::vector<double>& {
    return values.at({weight.parameter, weight.index});
  };
  for (const Patch& patch : patches) {
    bool any = false;
    for (const WeightRef& weight : patch.weights) {
      if (of(weight).size() > 2) continue;  // shared
      add(weight, of(weight), coefficients_);
      any = true;
    }
    if (any) ++coefficients_;
  }
  for (const auto& [key, of_weight] : values) {
    if (of_weight.size() > 2) add({key.first, key.second}, of_weight, coefficients_++);
  }
}

void PatchMerge::add(const WeightRef& weight, const std::vector<double>& values, size_t coefficient) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  weights_.push_back(weight);
  low_.push_back(*low);
  high_.push_back(*high);
  coefficient_.push_back(coefficient);
}

std::vector<double> PatchMerge::values(std::span<const double> point) const {
  std::vector<double> result;
  for (size_t i = 0; i < weights_.size(); ++i) {
    result.push_back(low_[i] + point[coefficient_[i]] * (high_[i] - low_[i]));
  }
  return result;
}

}  // namespace harness::search
