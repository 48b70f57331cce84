#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "approaches/lp/linear_program.hpp"
#include "harness/core/stop.hpp"

namespace harness::regions {

// The maximum or minimum of a linear function over a region.
struct Extreme {
  lp::Outcome outcome = lp::Outcome::doubtful;  // but for `optimal` there is no value
  double value = 0;  // the bound that the program's duals prove: never inside the true one
  bool found() const { return outcome == lp::Outcome::optimal; }
};

// The polytope { x : rows x <= bounds, low <= x <= high } (approaches/docs/RA.md, Formulas: region A), one
// linear program whose objective alone changes. The box are column bounds; rows that no point of the box can
// break are left out. Results are a function of the order of calls. One thread at a time.
class RegionRange {
 public:
  // (R, D), (R), (D), (D): double, CPU, contiguous.
  RegionRange(const at::Tensor& rows, const at::Tensor& bounds, const at::Tensor& low, const at::Tensor& high,
              Stop stop);
  Extreme max_value(const at::Tensor& direction) { return solve(direction, lp::Sense::maximise); }
  Extreme min_value(const at::Tensor& direction) { return solve(direction, lp::Sense::minimise); }

  int64_t rows() const { return program_.problem().rows(); }
  int64_t programs() const { return programs_; }
  int64_t iterations() const { return iterations_; }  // of the simplex method

 private:
  Extreme solve(const at::Tensor& direction, lp::Sense sense);

  lp::LinearProgram program_;
  Stop stop_;
  int64_t programs_ = 0, iterations_ = 0;
  int64_t cold_ = 0, warm_ = 0;  // iterations of the first program and of the second
};

// Greatest value of each row of `directions` (K, D) over the box alone: no smaller than over any region in
// it.
at::Tensor max_in_box(const at::Tensor& directions, const at::Tensor& low, const at::Tensor& high);
at::Tensor min_in_box(const at::Tensor& directions, const at::Tensor& low, const at::Tensor& high);

}  // namespace harness::regions
