#include "approaches/bounds/linear_bounds.hpp"

#include <ATen/ATen.h>

#include "harness/model/autograd.hpp"

namespace harness::bounds {
namespace {

void accumulate(at::Tensor& sum, const at::Tensor& term) {
  sum = sum.defined() ? sum + term : term;
}

// (N, shape) to (N, values).
at::Tensor flat(const at::Tensor& x) {
  return x.reshape({x.size(0), -1});
}

// Sums over the last dimension: (N, R, values) with (N, values), to (N, R).
at::Tensor products(const at::Tensor& forms, const at::Tensor& values) {
  return forms.matmul(values.unsqueeze(-1)).squeeze(-1);
}

}  // namespace

LinearBounds::LinearBounds(const PartialGraph& graph, const Boxes& given, double roundoff)
    : graph_(graph), roundoff_(roundoff), rows_(given.begin()->second.low.size(0)), boxes_(given) {
  const at::NoGradGuard no_grad;
  // Values of a loose node depend on each other in ways that boxes forget: behind two mixing layers.
  std::set<NodeId> mixed, loose;
  for (const NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    bool of_mixed = false, of_loose = false;
    for (const NodeId input : node.inputs) {
      of_mixed |= mixed.count(input) > 0;
      of_loose |= loose.count(input) > 0;
    }
    const bool mixes = is_affine(node) && !is_selection(node);
    if (of_mixed || mixes) mixed.insert(id);
    if (of_loose || (of_mixed && mixes)) loose.insert(id);
    if (!is_affine(node)) {
      const NodeId input = node.inputs[0];
      if (loose.count(input) > 0) boxes_[input] = box(input);
      lines_[id] = relax(node, boxes_.at(input), roundoff);
    }
    boxes_[id] = interval_step(graph, id, inputs_of(id), roundoff);
  }
}

std::vector<Box> LinearBounds::inputs_of(NodeId id) const {
  std::vector<Box> inputs;
  for (const NodeId input : graph_.node(id).inputs) inputs.push_back(boxes_.at(input));
  return inputs;
}

Box LinearBounds::box(NodeId id) const {
  const at::NoGradGuard no_grad;
  const Box& simple = boxes_.at(id);
  const at::Tensor units = at::eye(flat(simple.low).size(1), at::kDouble).unsqueeze(0);
  const at::Tensor low = min_value(below(id, units)).view_as(simple.low);
  const at::Tensor high = -min_value(below(id, -units)).view_as(simple.high);
  return {at::maximum(simple.low, low), at::minimum(simple.high, high)};
}

AffineForms LinearBounds::below(NodeId from, const at::Tensor& coefficients) const {
  const at::NoGradGuard no_grad;
  AffineForms result;
  std::map<NodeId, at::Tensor> forms;
  forms[from] = coefficients.expand({rows_, -1, -1});
  result.offset = at::zeros({rows_, coefficients.size(1)}, at::kDouble);
  const std::vector<NodeId>& order = graph_.order();
  for (auto id = order.rbegin(); id != order.rend(); ++id) {
    const auto form = forms.find(*id);
    if (form == forms.end()) continue;
    const at::Tensor value = form->second;
    forms.erase(form);
    if (is_affine(graph_.node(*id)))
      through_affine(*id, value, forms, result.offset);
    else
      through_activation(*id, value, forms, result.offset);
  }
  result.slope = std::move(forms);
  return result;
}

// The node is y = M x + c: a form A . y is (A M) . x + A . c. A M is the gradient of A . y, whatever the
// node.
void LinearBounds::through_affine(NodeId id, const at::Tensor& form, std::map<NodeId, at::Tensor>& forms,
                                  at::Tensor& offset) const {
  const Node& node = graph_.node(id);
  const int64_t count = form.size(1);
  std::vector<at::Tensor> zeros, sizes;
  for (const Box& input : inputs_of(id)) {
    std::vector<int64_t> shape = input.low.sizes().vec();
    shape[0] = rows_ * count;
    zeros.push_back(at::zeros(shape, at::kDouble).requires_grad_(true));
    sizes.push_back(input.max_size());
  }
  std::vector<at::Tensor> slopes;
  at::Tensor constant;
  {
    const at::AutoGradMode with_gradients(true);
    const at::Tensor value = graph_.compute(id, zeros);
    constant = value.detach().slice(0, 0, 1);
    slopes = grad({value}, zeros, {form.reshape(value.sizes())}, {.allow_unused = true});
  }
  accumulate(offset, products(form, flat(constant).expand({rows_, -1})));
  if (!is_selection(node)) {
    // Rounding of the node itself, of A M, which sums over the node's values, and of A . c.
    const double own = rounding_factor(graph_, id, roundoff_);
    const double backward = static_cast<double>(form.size(2) + 16) * kRoundoffDouble;
    offset = offset - products(form.abs(), flat(graph_.magnitude(id, sizes)).expand({rows_, -1})) *
                          (4 * (own + backward));
  }
  for (size_t k = 0; k < zeros.size(); ++k) {
    if (slopes[k].defined()) accumulate(forms[node.inputs[k]], slopes[k].reshape({rows_, count, -1}));
  }
}

void LinearBounds::through_activation(NodeId id, const at::Tensor& form, std::map<NodeId, at::Tensor>& forms,
                                      at::Tensor& offset) const {
  const Lines& lines = lines_.at(id);
  const NodeId input = graph_.node(id).inputs[0];
  const at::Tensor rising = form.clamp_min(0), falling = form.clamp_max(0);
  const auto row = [](const at::Tensor& x) { return flat(x).unsqueeze(1); };
  const at::Tensor slope = rising * row(lines.lower_slope) + falling * row(lines.upper_slope);
  const at::Tensor size =
      flat(at::maximum(lines.lower_offset.abs(), lines.upper_offset.abs()) +
           boxes_.at(input).max_size() * at::maximum(lines.lower_slope.abs(), lines.upper_slope.abs()));
  accumulate(offset,
             products(rising, flat(lines.lower_offset)) + products(falling, flat(lines.upper_offset)));
  offset = offset - products(form.abs(), size) * (static_cast<double>(form.size(2) + 16) * kRoundoffDouble);
  accumulate(forms[input], slope);
}

at::Tensor LinearBounds::min_value(const AffineForms& forms) const {
  const at::NoGradGuard no_grad;
  at::Tensor value = forms.offset;
  for (const auto& [source, slope] : forms.slope) {
    const Box& box = boxes_.at(source);
    const at::Tensor low = flat(box.low), high = flat(box.high);
    value = value + products(slope.clamp_min(0), low) + products(slope.clamp_max(0), high);
    value = value - products(slope.abs(), flat(box.max_size())) *
                        (static_cast<double>(slope.size(2) + 16) * kRoundoffDouble);
  }
  return value;
}

std::optional<Refusal> refuse_without_relaxation(const PartialGraph& graph) {
  for (const NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    const std::string limitation = is_affine(node) ? "" : relaxation_limitation(node);
    if (!limitation.empty()) {
      return Refusal{"operator", limitation + " (" + node.name + ") has no linear bounds"};
    }
  }
  return std::nullopt;
}

}  // namespace harness::bounds
