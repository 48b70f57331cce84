#pragma once

#include <span>
#include <vector>

#include "approaches/weights.hpp"

namespace harness::search {

// New values for some weights, found apart from other patches.
struct Patch {
  std::vector<WeightRef> weights;
  std::vector<double> values;
};

// Several patches of one network made into one by coefficients in [0, 1] (approaches/docs/DTR.md, Formulas):
// one for each patch that has weights of its own, for these, in the order of the patches; then one for every
// weight that several patches change. A weight is low + c (high - low) between the smallest and the largest
// of its own value and those of its patches.
class PatchMerge {
 public:
  PatchMerge(const Network& original, const std::vector<Patch>& patches);
  size_t coefficients() const { return coefficients_; }
  const std::vector<WeightRef>& weights() const { return weights_; }
  std::vector<double> values(std::span<const double> point) const;  // of weights()

 private:
  void add(const WeightRef& weight, const std::vector<double>& values, size_t coefficient);

  std::vector<WeightRef> weights_;
  std::vector<double> low_, high_;
  std::vector<size_t> coefficient_;  // of each weight
  size_t coefficients_ = 0;
};

}  // namespace harness::search
