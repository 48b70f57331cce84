#pragma once

#include <functional>
#include <vector>

#include "approaches/regions/linear_regions.hpp"
#include "approaches/regions/patch_network.hpp"
#include "approaches/regions/region_range.hpp"
#include "harness/core/stop.hpp"

namespace harness::regions {

// What every z_j - z_label has to keep within on a whole region (approaches/docs/RA.md, Formulas: wanted).
struct RegionTarget {
  at::Tensor low, high;  // (D), the box of the features; double, contiguous
  double min_value = -100, max_value = -1e-3;
  bool exact = true;  // extremes by linear programs; else from the box alone
};

// How the C - 1 differences of one region are to be changed, j ascending without the label: v becomes
// alpha v + beta.
struct RegionSolution {
  std::vector<double> alpha, beta;
  int64_t programs = 0;                        // linear programs solved
  int64_t lower_programs = 0;                  // those of them for minima
  int64_t iterations = 0;                      // of the simplex method
  lp::Outcome outcome = lp::Outcome::optimal;  // of the first program that was not solved
};

// Alpha and beta of region `number` of `regions`, by linear programs. `stop` is polled while one is solved.
// Safe in several threads at once.
RegionSolution solve_region(const LinearRegions& regions, int64_t number, int64_t label,
                            const RegionTarget& target, const Stop& stop);

// The patches: what is added to the logits on the regions of `features` (L, D), whose answers and labels are
// given.
AffinePatches affine_patches(const DenseHead& head, const at::Tensor& features,
                             const std::vector<int64_t>& labels, const std::vector<RegionSolution>& answers);

}  // namespace harness::regions
