#pragma once

#include "approaches/bounds/margin_bounds.hpp"

namespace harness::bounds {

// Where the intervals of a unit lie (approaches/docs/VERE.md, Formulas), with the range low .. high of its
// values: below_minimum: from low - (high - low), factor (high - low) long; minimum: the same from low;
// symmetric: from -factor |high| to factor |high|.
struct IntervalSettings {
  std::string start = "below_minimum";
  double factor = 1;
  int64_t count = 10;
};
// float64 (V, count + 1), ascending; `values`: float64 (N, V).
at::Tensor interval_edges(const at::Tensor& values, const IntervalSettings& settings);

// The minimum that moving each unit through its intervals does for the margins of N faults.
struct UnitMoves {
  at::Tensor edges;         // float64 (V, T + 1)
  at::Tensor bounds;        // float64 (V, N, T, 2): of MarginBounds::ends()
  at::Tensor margin;        // float64 (N): now
  at::Tensor significance;  // float64 (V), summed over the faults; 0 for units of zero range
};
std::optional<UnitMoves> unit_moves(const MarginBounds& tail, const MarginQuestion& question,
                                    const std::function<bool()>& go_on);

// Values that a unit shall take: float64 (N), CPU, low <= high.
struct UnitTargets {
  at::Tensor low, high;
  int64_t proved = 0;  // faults whose target is an interval in which the margin is proved to be positive
};
// For the faults of `moves` the nearest interval in which the label wins, else the best end, else
// `now`; `now` for all inputs behind them. `now`: float64 (N), the unit's values, the faults' first.
UnitTargets unit_targets(const UnitMoves& moves, int64_t unit, const at::Tensor& now);

}  // namespace harness::bounds
