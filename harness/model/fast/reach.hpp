#pragma once

// Internal to harness/model, no path of its own but what the fused kernels of inference.cpp need: how large
// the values of a network can become. Activations that clamp (and, in oneDNN's fused kernels, ReLU) turn NaN
// and infinity into numbers, so that a model whose values overflow can look sound. A bound that is carried
// through the steps costs nothing; only where it cannot exclude an overflow is a value itself looked at.
#include <ATen/core/Tensor.h>

#include <vector>

#include "harness/model/fast/fold.hpp"

namespace harness {

// Bounds up to this one exclude an overflow of float32 (3.4e38) inside the step that reaches them, too: sums
// over a window, and transforms of fast convolutions, are larger than their result by less than the rest.
inline constexpr double kSafeMagnitude = 1e32;

// Upper bound of a step's |value|, from those of its inputs; infinite for kinds without a rule. Of a layer
// that is linear in its input (convolution, linear, batch norm): by `gain`.
double reach_of(const PlanStep& step, const Gain& gain, const std::vector<double>& inputs);

// The gain that reach_of() takes for this step; infinite where the kind has another rule or none.
Gain layer_gain(const PlanStep& step);

// The largest |value|; NaN where there is one.
double largest_magnitude(const at::Tensor& value);

}  // namespace harness
