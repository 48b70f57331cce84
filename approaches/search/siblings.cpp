#include "approaches/search/siblings.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace harness::search {
namespace {

// Sums over a kernel outside one row and one column, from those of all rows and columns: a search may have
// thousands of weights. In float64 the subtraction costs no digit that matters.
class Sums {
 public:
  explicit Sums(const at::Tensor& of)
      : all_(of), rows_(of.sum(1)), columns_(of.sum(0)), total_(of.sum().item<double>()) {}
  double outside(int64_t row, int64_t column) const {
    const bool some = all_.size(0) > 1 && all_.size(1) > 1;
    if (!some) return total_;
    return total_ - rows_[row].item<double>() - columns_[column].item<double>() +
           all_[row][column].item<double>();
  }

 private:
  at::Tensor all_, rows_, columns_;
  double total_;
};

class Kernel {
 public:
  explicit Kernel(const at::Tensor& values)
      : rows_(values.size(0)),
        columns_(values.size(1)),
        sums_(values),
        squares_(values.square()),
        range_((values.max() - values.min()).item<double>()) {}

  SwarmDimension dimension(int64_t index) const {
    const int64_t row = index / columns_, column = index % columns_;
    const bool some = rows_ > 1 && columns_ > 1;
    const auto count = static_cast<double>(some ? (rows_ - 1) * (columns_ - 1) : rows_ * columns_);
    const double mean = sums_.outside(row, column) / count;
    const double square = squares_.outside(row, column) / count;
    return {.mean = mean,
            .deviation = std::sqrt(std::max(0.0, square - mean * mean)),
            .slowest = range_ / 5,
            .fastest = 5 * range_};
  }

 private:
  int64_t rows_, columns_;
  Sums sums_, squares_;
  double range_;
};

}  // namespace

std::vector<SwarmDimension> sibling_dimensions(const Network& network,
                                               const std::vector<WeightRef>& weights) {
  std::map<ParameterId, Kernel> kernels;
  std::vector<SwarmDimension> dimensions;
  for (const WeightRef& weight : weights) {
    auto place = kernels.find(weight.parameter);
    if (place == kernels.end()) {
      const at::Tensor& values = network.parameters()[weight.parameter].value;
      place = kernels.emplace(weight.parameter, values.detach().to(at::kCPU, at::kDouble)).first;
    }
    dimensions.push_back(place->second.dimension(weight.index));
  }
  return dimensions;
}

}  // namespace harness::search
