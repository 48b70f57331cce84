#include "approaches/regions/region_range.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <span>

namespace harness::regions {
namespace {

std::span<const double> numbers(const at::Tensor& vector) {
  return {vector.const_data_ptr<double>(), static_cast<size_t>(vector.numel())};
}

}  // namespace

at::Tensor max_in_box(const at::Tensor& directions, const at::Tensor& low, const at::Tensor& high) {
  return at::maximum(directions * low, directions * high).sum(1);
}

at::Tensor min_in_box(const at::Tensor& directions, const at::Tensor& low, const at::Tensor& high) {
  return at::minimum(directions * low, directions * high).sum(1);
}

RegionRange::RegionRange(const at::Tensor& rows, const at::Tensor& bounds, const at::Tensor& low,
                         const at::Tensor& high, Stop stop)
    : stop_(std::move(stop)) {
  for (int64_t j = 0; j < low.numel(); ++j) program_.add_column(numbers(low)[j], numbers(high)[j]);
  const at::Tensor can_break = max_in_box(rows, low, high) > bounds;
  for (int64_t i = 0; i < rows.size(0); ++i) {
    if (!can_break[i].item<bool>()) continue;
    program_.add_dense_row(0, numbers(rows[i]), -lp::kInfinity, bounds[i].item<double>());
  }
}

Extreme RegionRange::solve(const at::Tensor& direction, lp::Sense sense) {
  program_.set_sense(sense);
  program_.set_costs(numbers(direction));
  // Two ways to an optimum. Cold: the slack basis with every column at its better bound is the optimum over
  // the box, from where the dual method goes on. Warm: the last optimum is a point of the region, from where
  // the primal method goes on; near by where the region is small. Either takes a third of the other's
  // iterations on some head (measured), so the first two programs try one each, and their counts decide.
  const bool cold = programs_ == 0 || (programs_ > 1 && cold_ < warm_);
  if (cold) program_.set_basis({});
  const lp::Solution solution = program_.solve({.stop = stop_}, cold ? lp::Method::dual : lp::Method::primal);
  if (programs_ == 0) cold_ = solution.iterations;
  if (programs_ == 1) warm_ = solution.iterations;
  ++programs_;
  iterations_ += solution.iterations;
  const double slack = solution.gap * std::max(1.0, std::abs(solution.objective));
  return {solution.outcome, solution.objective + (sense == lp::Sense::maximise ? slack : -slack)};
}

}  // namespace harness::regions
