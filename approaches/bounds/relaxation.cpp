#include "approaches/bounds/relaxation.hpp"

#include <ATen/ATen.h>

#include "harness/core/error.hpp"

namespace harness::bounds {
namespace {

double slope_below_zero(const Node& node) {
  return node.kind == NodeKind::relu ? 0 : std::get<ActivationAttributes>(node.attributes).a;
}

Lines relax_kinked(double slope, const Box& x) {
  const at::Tensor one = at::ones_like(x.low), below = at::full_like(x.low, slope),
                   zero = at::zeros_like(one);
  const at::Tensor positive = x.low >= 0, negative = x.high <= 0, unstable = ~(positive | negative);
  const at::Tensor width = at::where(unstable, x.high - x.low, one);
  const at::Tensor chord = (x.high - slope * x.low) / width;
  Lines lines;
  lines.upper_slope = at::where(unstable, chord, at::where(positive, one, below));
  lines.upper_offset = at::where(unstable, x.high * (1 - chord), zero);
  lines.lower_slope = at::where(at::where(unstable, x.high > -x.low, positive), one, below);
  lines.lower_offset = zero;
  return lines;
}

// Values and derivatives of a function that is convex below 0 and concave above it.
struct SShape {
  at::Tensor value, derivative;
};
SShape s_shape(NodeKind kind, const at::Tensor& x) {
  const at::Tensor y = kind == NodeKind::tanh ? at::tanh(x) : at::sigmoid(x);
  return {y, kind == NodeKind::tanh ? 1 - y * y : y * (1 - y)};
}

Lines relax_s_shape(NodeKind kind, const Box& x) {
  const SShape low = s_shape(kind, x.low), high = s_shape(kind, x.high);
  const at::Tensor middle = (x.low + x.high) / 2;
  const SShape tangent = s_shape(kind, middle);
  const at::Tensor concave = x.low >= 0, convex = x.high <= 0, width = x.high - x.low;
  // A narrow interval's chord is all rounding; the flattest slope of the interval bounds from both its ends.
  const at::Tensor wide = width > 1e-6, flattest = at::minimum(low.derivative, high.derivative);
  const at::Tensor chord = (high.value - low.value) / at::where(wide, width, at::ones_like(width));
  Lines lines;
  lines.lower_slope =
      at::where(wide & concave, chord, at::where(wide & convex, tangent.derivative, flattest));
  lines.upper_slope =
      at::where(wide & convex, chord, at::where(wide & concave, tangent.derivative, flattest));
  lines.lower_offset = at::where(wide & convex, tangent.value - lines.lower_slope * middle,
                                 low.value - lines.lower_slope * x.low);
  lines.upper_offset = at::where(wide & concave, tangent.value - lines.upper_slope * middle,
                                 high.value - lines.upper_slope * x.high);
  return lines;
}

}  // namespace

std::string relaxation_limitation(const Node& node) {
  switch (node.kind) {
    case NodeKind::relu:
    case NodeKind::sigmoid:
    case NodeKind::tanh:
      return "";
    case NodeKind::leaky_relu: {
      const double slope = slope_below_zero(node);
      return slope >= 0 && slope <= 1 ? "" : "leaky_relu with a slope that is not between 0 and 1";
    }
    default:
      return to_text(node.kind);
  }
}

Lines relax(const Node& node, const Box& input, double roundoff) {
  const bool kinked = node.kind == NodeKind::relu || node.kind == NodeKind::leaky_relu;
  if (!relaxation_limitation(node).empty()) interface_misuse("no linear bounds for " + node.name);
  Lines lines = kinked ? relax_kinked(slope_below_zero(node), input) : relax_s_shape(node.kind, input);
  // A few roundings of the terms that the lines are computed of, and of the function. A ReLU of one sign is
  // exact.
  const at::Tensor size = input.max_size();
  at::Tensor error = 32 * kRoundoffDouble * (kinked ? size : size + 1);
  if (node.kind == NodeKind::relu) {
    error = at::where((input.low < 0) & (input.high > 0), error, at::zeros_like(error));
  } else {
    error = error + 16 * roundoff * (kinked ? size : at::ones_like(size));
  }
  lines.lower_offset = lines.lower_offset - error;
  lines.upper_offset = lines.upper_offset + error;
  return lines;
}

}  // namespace harness::bounds
