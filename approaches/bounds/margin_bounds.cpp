#include "approaches/bounds/margin_bounds.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "harness/model/graph.hpp"

namespace harness::bounds {
namespace {

constexpr int64_t kUnitsASlab = 64;
constexpr int64_t kSlabValues = int64_t{1} << 23;  // of the widest tensor of a relaxation
constexpr int64_t kLanes = 4;                      // edges at a time, in registers

// A tail of dense, ReLU, dense for N inputs, H units between; all row-major.
struct TwoLayerTail {
  int64_t inputs, units, intervals;
  const double* columns;   // (V, H): transposed kernel
  const double* before;    // (N, H): values before the ReLU
  const double* margin;    // (N, H): kernel row of the label less that of the prediction
  const double* constant;  // (N): the same of the bias
  const double* size;      // (N): sum of the absolute terms of the margin, for its rounding
};

// Margins with the unit's value moved by each of `moved` (padded to kLanes).
void margins(const TwoLayerTail& tail, const double* column, int64_t input, const std::vector<double>& moved,
             std::vector<double>& sums) {
  const double *before = tail.before + input * tail.units, *margin = tail.margin + input * tail.units;
  for (size_t first = 0; first < moved.size(); first += kLanes) {
    double lane[kLanes] = {};
    for (int64_t j = 0; j < tail.units; ++j) {
      for (int64_t k = 0; k < kLanes; ++k)
        lane[k] += margin[j] * std::max(before[j] + column[j] * moved[first + static_cast<size_t>(k)], 0.0);
    }
    std::copy(lane, lane + kLanes, sums.begin() + static_cast<int64_t>(first));
  }
}

// The lines of the closed form meet the ReLU in both ends of an interval but for one case: a ReLU that
// changes its sign in the interval and counts for the margin is bounded from below, by slope 1, which is too
// low at the end where it is off, or by 0, which is too low at the end where it is on. It can do so in one
// interval only. Adds what is too low to `ends` (T, 2).
void add_relaxation(const TwoLayerTail& tail, const double* column, int64_t input,
                    const std::vector<double>& moved, double* ends) {
  const double *before = tail.before + input * tail.units, *margin = tail.margin + input * tail.units;
  const auto last = static_cast<size_t>(tail.intervals);
  for (int64_t j = 0; j < tail.units; ++j) {
    const auto at = [&](size_t edge) { return before[j] + column[j] * moved[edge]; };
    if (margin[j] <= 0 || at(0) * at(last) >= 0) continue;
    size_t edge = 0;
    while (edge + 1 < last && at(0) * at(edge + 1) > 0) ++edge;
    const double first = at(edge), second = at(edge + 1);
    if (first * second >= 0) continue;  // an edge lies on the kink
    const double low = std::min(first, second), high = std::max(first, second);
    const bool slope_one = high > -low;
    const bool at_second = slope_one == (second < first);
    ends[2 * edge + (at_second ? 1 : 0)] += margin[j] * (slope_one ? low : -high);
  }
}

void bound_unit(const TwoLayerTail& tail, int64_t unit, const double* edges, const double* values,
                int64_t width, double* out) {
  const int64_t count = tail.intervals + 1;
  const double* column = tail.columns + unit * tail.units;
  std::vector<double> moved(static_cast<size_t>((count + kLanes - 1) / kLanes * kLanes)), sums(moved.size());
  for (int64_t n = 0; n < tail.inputs; ++n, out += 2 * tail.intervals) {
    const double value = values[n * width + unit];
    double farthest = 0, weight = 0;
    for (int64_t e = 0; e < count; ++e) {
      moved[static_cast<size_t>(e)] = edges[e] - value;
      farthest = std::max(farthest, std::abs(edges[e]) + std::abs(value));
    }
    margins(tail, column, n, moved, sums);
    for (int64_t j = 0; j < tail.units; ++j) weight += std::abs(tail.margin[n * tail.units + j] * column[j]);
    const double rounding = 4 * static_cast<double>(width + tail.units + 32) * kRoundoffDouble *
                            (tail.size[n] + farthest * weight);
    for (int64_t t = 0; t < tail.intervals; ++t) {
      out[2 * t] = sums[static_cast<size_t>(t)] + tail.constant[n] - rounding;
      out[2 * t + 1] = sums[static_cast<size_t>(t + 1)] + tail.constant[n] - rounding;
    }
    add_relaxation(tail, column, n, moved, out);
  }
}

at::Tensor or_zeros(const at::Tensor& bias, int64_t count) {
  return bias.defined() ? bias : at::zeros({count}, at::kDouble);
}

}  // namespace

MarginBounds::MarginBounds(const Network& network, NodeId layer, bool closed_form)
    : graph_(network, {layer}, network.logits_node()), layer_(layer), classes_(network.classes()), width_(1) {
  std::vector<NodeKind> kinds;
  for (const NodeId id : graph_.order()) {
    const Node& node = graph_.node(id);
    width_ = std::max(width_, graph::value_count(node.shape));
    if (node.kind == NodeKind::dropout) continue;
    kinds.push_back(node.kind);
    if (graph::is_dense(node)) dense_.push_back(id);
  }
  width_ = std::max(width_, graph_.node(layer).shape.at(0));
  // Three nodes with one input each are a chain.
  closed_form_ = closed_form && dense_.size() == 2 &&
                 kinds == std::vector<NodeKind>{NodeKind::linear, NodeKind::relu, NodeKind::linear};
}

std::optional<at::Tensor> MarginBounds::ends(const MarginQuestion& question,
                                             const std::function<bool()>& go_on) const {
  const at::NoGradGuard no_grad;
  return closed_form_ ? by_closed_form(question, go_on) : by_relaxation(question, go_on);
}

std::optional<at::Tensor> MarginBounds::by_closed_form(const MarginQuestion& question,
                                                       const std::function<bool()>& go_on) const {
  const std::vector<at::Tensor>&first = graph_.parameters(dense_[0]), &second = graph_.parameters(dense_[1]);
  const at::Tensor values = question.values.contiguous(), edges = question.edges.contiguous();
  const int64_t inputs = values.size(0), width = values.size(1), intervals = edges.size(1) - 1;
  const at::Tensor bias = or_zeros(second[1], classes_), columns = first[0].t().contiguous();
  const at::Tensor before = at::linear(values, first[0], first[1]).contiguous();
  const auto rows = [&](const at::Tensor& x, const at::Tensor& classes) {
    return x.index_select(0, classes);
  };
  const at::Tensor margin =
      (rows(second[0], question.labels) - rows(second[0], question.predicted)).contiguous();
  const at::Tensor constant = rows(bias, question.labels) - rows(bias, question.predicted);
  const at::Tensor terms =
      at::matmul(values.abs(), first[0].abs().t()) + or_zeros(first[1], first[0].size(0)).abs();
  const at::Tensor size = (margin.abs() * terms).sum(1) + rows(bias.abs(), question.labels) +
                          rows(bias.abs(), question.predicted);
  const TwoLayerTail tail = {.inputs = inputs,
                             .units = columns.size(1),
                             .intervals = intervals,
                             .columns = columns.const_data_ptr<double>(),
                             .before = before.const_data_ptr<double>(),
                             .margin = margin.const_data_ptr<double>(),
                             .constant = constant.const_data_ptr<double>(),
                             .size = size.const_data_ptr<double>()};
  at::Tensor found = at::empty({width, inputs, intervals, 2}, at::kDouble);
  double* const out = found.mutable_data_ptr<double>();
  const int64_t per_unit = inputs * intervals * 2;
  for (int64_t begin = 0; begin < width; begin += kUnitsASlab) {
    if (go_on && !go_on()) return std::nullopt;
    at::parallel_for(begin, std::min(width, begin + kUnitsASlab), 1, [&](int64_t from, int64_t to) {
      for (int64_t unit = from; unit < to; ++unit) {
        bound_unit(tail, unit, edges.const_data_ptr<double>() + unit * (intervals + 1),
                   values.const_data_ptr<double>(), width, out + unit * per_unit);
      }
    });
  }
  return found;
}

std::optional<at::Tensor> MarginBounds::by_relaxation(const MarginQuestion& question,
                                                      const std::function<bool()>& go_on) const {
  const int64_t inputs = question.values.size(0), width = question.values.size(1),
                intervals = question.edges.size(1) - 1, total = width * inputs * intervals;
  const int64_t slab = std::max<int64_t>(1, kSlabValues / (width_ * width_));
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < total; begin += slab) {
    if (go_on && !go_on()) return std::nullopt;
    const at::Tensor row = at::arange(begin, std::min(total, begin + slab));
    const at::Tensor unit = row.div(inputs * intervals, "floor").unsqueeze(1),
                     input = row.div(intervals, "floor").remainder(inputs),
                     interval = row.remainder(intervals);
    const at::Tensor edges = question.edges.index_select(0, unit.squeeze(1));
    const auto moved = [&](int64_t end) {
      return question.values.index_select(0, input).scatter(1, unit,
                                                            edges.gather(1, (interval + end).unsqueeze(1)));
    };
    const Box box = {moved(0), moved(1)};
    at::Tensor margin = at::zeros({row.size(0), classes_}, at::kDouble);
    const at::Tensor one = at::ones({row.size(0), 1}, at::kDouble);
    margin.scatter_add_(1, question.labels.index_select(0, input).unsqueeze(1), one);
    margin.scatter_add_(1, question.predicted.index_select(0, input).unsqueeze(1), -one);
    const LinearBounds bounds(graph_, {{layer_, box}});
    const AffineForms forms = bounds.below(margin.unsqueeze(1));
    const at::Tensor slope = forms.slope.at(layer_).squeeze(1), offset = forms.offset.squeeze(1);
    const at::Tensor rounding =
        (slope.abs() * box.max_size()).sum(1) * (static_cast<double>(width + 16) * kRoundoffDouble);
    parts.push_back(at::stack(
        {(slope * box.low).sum(1) + offset - rounding, (slope * box.high).sum(1) + offset - rounding}, 1));
  }
  return at::cat(parts).view({width, inputs, intervals, 2});
}

}  // namespace harness::bounds
