#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "approaches/regions/dense_head.hpp"

namespace harness::regions {

// For every hidden layer which units have z >= 0: bool (L, units), for features (L, D) in double.
std::vector<at::Tensor> activation_patterns(const DenseHead& head, const at::Tensor& features);

// The numbers (int64, ascending) of those of L regions that are no later one with another label.
at::Tensor undisputed(const std::vector<at::Tensor>& patterns, const std::vector<int64_t>& labels);

// The linear regions that L inputs lie in (approaches/docs/RA.md, Formulas: region A): all x for which every
// hidden unit has the sign it has at the input. Double, CPU. Row i: hidden unit i, layer after layer.
struct LinearRegions {
  at::Tensor rows, bounds;      // (L, R, D), (L, R): rows x <= bounds
  at::Tensor jacobian, offset;  // (L, C, D), (L, C): logits = jacobian x + offset there
};
// One masked product per layer for all L; R D doubles an input, so callers go through many inputs in parts.
LinearRegions linear_regions(const DenseHead& head, const at::Tensor& features);

}  // namespace harness::regions
