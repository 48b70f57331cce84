#include "approaches/bounds/unit_moves.hpp"

#include <ATen/ATen.h>

#include <cmath>

#include "harness/core/error.hpp"

namespace harness::bounds {

at::Tensor interval_edges(const at::Tensor& values, const IntervalSettings& settings) {
  const at::Tensor low = values.amin(0), high = values.amax(0);
  at::Tensor begin = low, length = settings.factor * (high - low);
  if (settings.start == "below_minimum") {
    begin = low - (high - low);
  } else if (settings.start == "symmetric") {
    begin = -settings.factor * high.abs();
    length = 2 * settings.factor * high.abs();
  } else if (settings.start != "minimum") {
    interface_misuse("unknown start of intervals: " + settings.start);
  }
  const at::Tensor part = at::arange(settings.count + 1, at::kDouble) / static_cast<double>(settings.count);
  return begin.unsqueeze(1) + length.unsqueeze(1) * part;
}

std::optional<UnitMoves> unit_moves(const MarginBounds& tail, const MarginQuestion& question,
                                    const std::function<bool()>& go_on) {
  const at::NoGradGuard no_grad;
  auto bounds = tail.ends(question, go_on);
  if (!bounds) return std::nullopt;
  UnitMoves moves;
  moves.edges = question.edges;
  moves.bounds = std::move(*bounds);
  const at::Tensor logits = tail.logits(question.values);
  moves.margin =
      (logits.gather(1, question.labels.unsqueeze(1)) - logits.gather(1, question.predicted.unsqueeze(1)))
          .squeeze(1);
  const at::Tensor constant =
      question.edges.select(1, 0) == question.edges.select(1, question.edges.size(1) - 1);
  const at::Tensor gain =
      (moves.bounds.amax({2, 3}) - moves.margin).clamp_min(0).masked_fill(constant.unsqueeze(1), 0);
  const at::Tensor lowest = gain.amin(0), range = gain.amax(0) - lowest;
  // Where all units do the same for an input, it says nothing about any.
  moves.significance = ((gain - lowest) / at::where(range > 0, range, at::ones_like(range))).sum(1);
  return moves;
}

UnitTargets unit_targets(const UnitMoves& moves, int64_t unit, const at::Tensor& now) {
  UnitTargets targets{.low = now.clone(), .high = now.clone()};
  const at::Tensor bounds = moves.bounds[unit].contiguous();
  const int64_t intervals = bounds.size(1);
  const double* edge = moves.edges.const_data_ptr<double>() + unit * (intervals + 1);
  const double* margin = moves.margin.const_data_ptr<double>();
  double *low = targets.low.mutable_data_ptr<double>(), *high = targets.high.mutable_data_ptr<double>();
  for (int64_t n = 0; n < bounds.size(0); ++n) {
    const double* ends = bounds.const_data_ptr<double>() + 2 * n * intervals;
    const double value = low[n];
    double nearest = -1, best = 0;
    for (int64_t t = 0; t < intervals; ++t) {
      if (ends[2 * t] <= 0 || ends[2 * t + 1] <= 0) continue;
      const double distance = std::min(std::abs(edge[t] - value), std::abs(edge[t + 1] - value));
      if (nearest >= 0 && distance >= nearest) continue;
      nearest = distance;
      low[n] = edge[t];
      high[n] = edge[t + 1];
    }
    targets.proved += nearest >= 0;
    if (nearest >= 0) continue;
    for (int64_t k = 0; k < 2 * intervals; ++k) {
      if (ends[k] - margin[n] <= best) continue;
      best = ends[k] - margin[n];
      low[n] = high[n] = edge[k / 2 + k % 2];
    }
  }
  return targets;
}

}  // namespace harness::bounds
