#pragma once

#include <string>

#include "approaches/bounds/interval_bounds.hpp"

namespace harness::bounds {

// Two lines that enclose an activation over an interval, element by element: float64 (N, shape),
//   lower_slope x + lower_offset <= f(x) <= upper_slope x + upper_offset  for low <= x <= high.
struct Lines {
  at::Tensor lower_slope, lower_offset, upper_slope, upper_offset;
};

// Empty, or why the activation has no lines: relu, leaky_relu (slope 0 to 1), sigmoid and tanh have some.
std::string relaxation_limitation(const Node& node);

// ReLU: exact where the sign is known; else the chord above and, below, slope 1 where high > -low and slope 0
// elsewhere. Sigmoid and tanh: chord or tangent by curvature. Offsets are widened by the rounding of the
// lines and of the function at `roundoff`.
Lines relax(const Node& node, const Box& input, double roundoff);

}  // namespace harness::bounds
