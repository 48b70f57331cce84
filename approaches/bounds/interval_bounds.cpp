#include "approaches/bounds/interval_bounds.hpp"

#include <ATen/ATen.h>

#include <limits>

#include "harness/core/error.hpp"
#include "harness/model/execute.hpp"

namespace harness::bounds {
namespace {

// Values of a function computed in a few roundings.
constexpr double kFunctionRoundings = 16;

Box widened(const at::Tensor& low, const at::Tensor& high, double factor) {
  const double tiny = std::numeric_limits<double>::min();
  return {low - (low.abs() * factor + tiny), high + (high.abs() * factor + tiny)};
}

// |c + y| for |y| <= r with the rounding of c = (low + high) / 2 covered.
Box affine(const PartialGraph& graph, NodeId id, const std::vector<Box>& inputs, double roundoff) {
  std::vector<at::Tensor> centre, radius, size, zero;
  for (const Box& box : inputs) {
    centre.push_back((box.low + box.high) / 2);
    radius.push_back(at::maximum(box.high - centre.back(), centre.back() - box.low) *
                     (1 + 4 * kRoundoffDouble));
    size.push_back(box.max_size());
    zero.push_back(at::zeros_like(box.low.slice(0, 0, 1)));
  }
  const at::Tensor middle = graph.compute(id, centre), magnitude = graph.magnitude(id, size);
  const at::Tensor spread = graph.magnitude(id, radius) - graph.magnitude(id, zero);
  const at::Tensor error = magnitude * (4 * rounding_factor(graph, id, roundoff));
  return {middle - spread - error, middle + spread + error};
}

// Functions that fall to one minimum and rise behind it.
struct Valley {
  double low, high;  // an interval that contains the place of the minimum
  double min_value;  // no value is smaller
};
std::optional<Valley> valley(const Node& node) {
  if (node.kind == NodeKind::silu) return Valley{-1.2785, -1.2784, -0.27846455};
  if (node.kind == NodeKind::hardswish) return Valley{-1.5, -1.5, -0.375};
  if (node.kind != NodeKind::gelu) return std::nullopt;
  return std::get<ActivationAttributes>(node.attributes).tanh_form ? Valley{-0.7525, -0.7524, -0.17004084}
                                                                   : Valley{-0.7518, -0.7517, -0.16997122};
}

Box activation(const PartialGraph& graph, NodeId id, const Box& input, double roundoff) {
  const Node& node = graph.node(id);
  const at::Tensor a = graph.compute(id, {input.low}), b = graph.compute(id, {input.high});
  if (node.kind == NodeKind::relu || node.kind == NodeKind::relu6 || node.kind == NodeKind::hardtanh)
    return {a, b};
  at::Tensor low = at::minimum(a, b);
  if (const auto bottom = valley(node)) {
    low = at::where((input.low <= bottom->high) & (input.high >= bottom->low),
                    at::full_like(low, bottom->min_value), low);
  } else if (node.kind == NodeKind::leaky_relu || node.kind == NodeKind::elu) {
    // With a negative slope the minimum may lie at 0.
    low = at::where((input.low <= 0) & (input.high >= 0), low.clamp_max(0), low);
  }
  return widened(low, at::maximum(a, b), kFunctionRoundings * roundoff);
}

// log p_i = -log(1 + sum over j of exp(x_j - x_i)): its minimum is where all others are at their maximum.
at::Tensor log_share(const at::Tensor& own, const at::Tensor& others) {
  const int64_t classes = own.size(-1);
  const at::Tensor same = at::eye(classes, at::kBool);
  const at::Tensor row = others.unsqueeze(-2) - own.unsqueeze(-1);
  return -at::where(same, at::zeros_like(row), row).logsumexp(-1);
}

Box softmax(const Node& node, const Box& input, double roundoff) {
  const int64_t dim = std::get<DimsAttributes>(node.attributes).dims[0];
  const at::Tensor low = input.low.transpose(dim, -1), high = input.high.transpose(dim, -1);
  Box share = {log_share(low, high), log_share(high, low)};
  const double roundings = kFunctionRoundings + static_cast<double>(low.size(-1));
  const at::Tensor error = (input.max_size().amax() + share.low.abs().amax() + 1) * roundings * roundoff;
  share = {(share.low - error).transpose(dim, -1), (share.high + error).clamp_max(0).transpose(dim, -1)};
  if (node.kind == NodeKind::log_softmax) return {share.low, share.high + error};
  return widened(share.low.exp(), share.high.exp(), roundings * roundoff);
}

Box product(const PartialGraph& graph, NodeId id, const Box& a, const Box& b, double roundoff) {
  const at::Tensor ends[] = {graph.compute(id, {a.low, b.low}), graph.compute(id, {a.low, b.high}),
                             graph.compute(id, {a.high, b.low}), graph.compute(id, {a.high, b.high})};
  return widened(at::minimum(at::minimum(ends[0], ends[1]), at::minimum(ends[2], ends[3])),
                 at::maximum(at::maximum(ends[0], ends[1]), at::maximum(ends[2], ends[3])),
                 kFunctionRoundings * roundoff);
}

bool is_quotient_by_node(const Node& node) {
  return node.kind == NodeKind::div && !is_affine(node);
}

}  // namespace

at::Tensor Box::max_size() const {
  return at::maximum(low.abs(), high.abs());
}

double rounding_factor(const PartialGraph& graph, NodeId id, double roundoff) {
  const Node& node = graph.node(id);
  double terms = 16;  // of batch norm and the like
  if (node.kind == NodeKind::linear || node.kind == NodeKind::conv) {
    const at::Tensor& weight = graph.parameters(id)[0];
    terms += static_cast<double>(weight.numel() / weight.size(0));
  } else if (node.kind == NodeKind::avg_pool || node.kind == NodeKind::adaptive_avg_pool ||
             node.kind == NodeKind::mean) {
    for (const int64_t size : graph.node(node.inputs[0]).shape) terms += static_cast<double>(size * size);
  }
  return terms * roundoff;
}

Box interval_step(const PartialGraph& graph, NodeId id, const std::vector<Box>& inputs, double roundoff) {
  const at::NoGradGuard no_grad;
  const Node& node = graph.node(id);
  if (is_selection(node) || node.kind == NodeKind::max_pool || node.kind == NodeKind::adaptive_max_pool) {
    std::vector<at::Tensor> low, high;
    for (const Box& box : inputs) {
      low.push_back(box.low);
      high.push_back(box.high);
    }
    return {graph.compute(id, low), graph.compute(id, high)};
  }
  if (is_affine(node)) return affine(graph, id, inputs, roundoff);
  if (node.kind == NodeKind::mul) return product(graph, id, inputs[0], inputs[1], roundoff);
  if (node.kind == NodeKind::softmax || node.kind == NodeKind::log_softmax)
    return softmax(node, inputs[0], roundoff);
  if (is_activation(node.kind)) return activation(graph, id, inputs[0], roundoff);
  interface_misuse("no interval bounds for " + node.name);
}

Boxes interval_bounds(const PartialGraph& graph, const Boxes& given, double roundoff) {
  Boxes boxes = given;
  for (const NodeId id : graph.order()) {
    std::vector<Box> inputs;
    for (const NodeId input : graph.node(id).inputs) inputs.push_back(boxes.at(input));
    boxes[id] = interval_step(graph, id, inputs, roundoff);
  }
  return boxes;
}

std::optional<Refusal> refuse_without_intervals(const PartialGraph& graph) {
  for (const NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    if (is_quotient_by_node(node)) {
      return Refusal{"operator", std::string(to_text(node.kind)) + " of " + node.name + " has no bounds"};
    }
  }
  return std::nullopt;
}

}  // namespace harness::bounds
