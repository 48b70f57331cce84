#include "approaches/lp/problem.hpp"

#include <algorithm>
#include <cmath>

namespace harness::lp {
namespace {

// Sums this small, compared with their terms, are rounding errors.
constexpr double kRounding = 1e-9;
// Solvers leave relative slopes up to kSlope at columns without a bound. A proof with such slopes holds for
// points whose values in these columns are at most kFar.
constexpr double kSlope = 1e-7, kFar = 1e4;

// `sum`: y A. `terms`: for each column, the sum of the absolute terms.
struct Combination {
  std::vector<double> sum, terms;
};
Combination combine(const Problem& problem, std::span<const double> y) {
  Combination result{std::vector<double>(problem.columns(), 0), std::vector<double>(problem.columns(), 0)};
  for (int row = 0; row < problem.rows(); ++row) {
    if (y[row] == 0) continue;
    for (int k = problem.starts[row]; k < problem.starts[row + 1]; ++k) {
      const double term = y[row] * problem.value[k];
      result.sum[problem.index[k]] += term;
      result.terms[problem.index[k]] += std::abs(term);
    }
  }
  return result;
}

double distance_outside(double value, double low, double high) {
  return std::max({0.0, low - value, value - high});
}

double finite_part(double bound) {
  return std::isfinite(bound) ? std::abs(bound) : 0;
}

}  // namespace

const char* to_text(Outcome outcome) {
  switch (outcome) {
    case Outcome::optimal:
      return "optimal";
    case Outcome::infeasible:
      return "infeasible";
    case Outcome::unbounded:
      return "unbounded";
    case Outcome::time_limit:
      return "time limit";
    case Outcome::memory_limit:
      return "memory limit";
    case Outcome::stopped:
      return "stopped";
    case Outcome::doubtful:
      return "numerically doubtful";
  }
  return "";
}

double Problem::objective(std::span<const double> x) const {
  double sum = 0;
  for (int j = 0; j < columns(); ++j) sum += cost[j] * x[j];
  return sum;
}

double Problem::activity(int row, std::span<const double> x) const {
  double sum = 0;
  for (int k = starts[row]; k < starts[row + 1]; ++k) sum += value[k] * x[index[k]];
  return sum;
}

double violation(const Problem& problem, std::span<const double> x) {
  double worst = 0;
  for (int j = 0; j < problem.columns(); ++j) {
    if (!std::isfinite(x[j])) return kInfinity;
    const double scale = std::max({1.0, finite_part(problem.low[j]), finite_part(problem.high[j])});
    worst = std::max(worst, distance_outside(x[j], problem.low[j], problem.high[j]) / scale);
  }
  for (int row = 0; row < problem.rows(); ++row) {
    double scale = std::max({1.0, finite_part(problem.row_low[row]), finite_part(problem.row_high[row])});
    for (int k = problem.starts[row]; k < problem.starts[row + 1]; ++k)
      scale = std::max(scale, std::abs(problem.value[k] * x[problem.index[k]]));
    const double value = problem.activity(row, x);
    worst = std::max(worst, distance_outside(value, problem.row_low[row], problem.row_high[row]) / scale);
  }
  return worst;
}

double dual_bound(const Problem& problem, std::span<const double> duals, std::span<const double> x,
                  double tolerance) {
  const double sign = problem.sense == Sense::minimise ? 1 : -1;  // computed as a minimisation
  std::vector<double> y(duals.begin(), duals.end());
  double bound = 0;
  for (int row = 0; row < problem.rows(); ++row) {
    y[row] *= sign;
    const double at = y[row] > 0 ? problem.row_low[row] : problem.row_high[row];
    if (std::isfinite(at))
      bound += y[row] * at;
    else if (std::abs(y[row]) > tolerance)
      return -sign * kInfinity;
    else
      y[row] = 0;
  }
  const Combination combination = combine(problem, y);
  for (int j = 0; j < problem.columns(); ++j) {
    const double cost = sign * problem.cost[j], reduced = cost - combination.sum[j];
    if (reduced == 0) continue;
    const double at = reduced > 0 ? problem.low[j] : problem.high[j];
    if (std::isfinite(at))
      bound += reduced * at;
    else if (std::abs(reduced) > tolerance * std::max({1.0, std::abs(cost), combination.terms[j]}))
      return -sign * kInfinity;
    else
      bound += reduced * x[j];
  }
  return sign * bound;
}

bool proves_infeasible(const Problem& problem, std::span<const double> multipliers) {
  std::vector<double> y(multipliers.begin(), multipliers.end());
  double largest = 0;
  for (const double value : y) largest = std::max(largest, std::abs(value));
  if (!(largest > 0) || !std::isfinite(largest)) return false;
  double demanded = 0, scale = 0;  // y A x has to be at least `demanded`
  for (int row = 0; row < problem.rows(); ++row) {
    const double at = y[row] > 0 ? problem.row_low[row] : problem.row_high[row];
    if (std::isfinite(at)) {
      demanded += y[row] * at;
      scale += std::abs(y[row] * at);
    } else if (std::abs(y[row]) > kRounding * largest) {
      return false;
    } else {
      y[row] = 0;
    }
  }
  const Combination combination = combine(problem, y);
  // For each column its largest entry times the largest multiplier; rounding errors are small against that.
  std::vector<double> size(problem.columns(), 0);
  for (size_t k = 0; k < problem.value.size(); ++k)
    size[problem.index[k]] = std::max(size[problem.index[k]], largest * std::abs(problem.value[k]));
  double maximum = 0;  // y A x is at most `maximum` within the bounds
  for (int j = 0; j < problem.columns(); ++j) {
    const double slope = combination.sum[j];
    if (std::abs(slope) <= kRounding * size[j]) {
      // A rounding error, which a wide finite range could still make large.
      const double range = std::max(finite_part(problem.low[j]), finite_part(problem.high[j]));
      scale += size[j] * std::max(1.0, range);
      continue;
    }
    double at = slope > 0 ? problem.high[j] : problem.low[j];
    if (!std::isfinite(at)) {
      if (std::abs(slope) > kSlope * size[j]) return false;
      at = slope > 0 ? kFar : -kFar;
    }
    maximum += slope * at;
    scale += std::abs(slope * at);
  }
  return demanded > maximum + kRounding * scale;
}

bool proves_unbounded(const Problem& problem, std::span<const double> direction) {
  double largest = 0;
  for (const double value : direction) largest = std::max(largest, std::abs(value));
  if (!(largest > 0) || !std::isfinite(largest)) return false;
  const double tolerance = kRounding * largest;
  double gain = 0, terms = 0;
  for (int j = 0; j < problem.columns(); ++j) {
    if (direction[j] > tolerance && std::isfinite(problem.high[j])) return false;
    if (direction[j] < -tolerance && std::isfinite(problem.low[j])) return false;
    gain += problem.cost[j] * direction[j];
    terms += std::abs(problem.cost[j] * direction[j]);
  }
  for (int row = 0; row < problem.rows(); ++row) {
    double slope = 0, size = 0;
    for (int k = problem.starts[row]; k < problem.starts[row + 1]; ++k) {
      const double term = problem.value[k] * direction[problem.index[k]];
      slope += term;
      size += std::abs(term);
    }
    if (slope > kRounding * size && std::isfinite(problem.row_high[row])) return false;
    if (slope < -kRounding * size && std::isfinite(problem.row_low[row])) return false;
  }
  return (problem.sense == Sense::minimise ? -gain : gain) > kRounding * terms;
}

}  // namespace harness::lp
