#include "approaches/regions/region_solution.hpp"

#include <ATen/ATen.h>

#include <optional>

namespace harness::regions {
namespace {

// P (approaches/docs/RA.md, Formulas) without its completion row: row j - row `label` of (C, ...), for all
// j != label.
at::Tensor differences(const at::Tensor& values, int64_t label) {
  const at::Tensor others = at::cat({values.slice(0, 0, label), values.slice(0, label + 1)});
  return others - values[label];
}

// P^-1 of (P, ...) with 0 for the completion row of ones: what has these differences and sums up to 0.
at::Tensor with_differences(const at::Tensor& wanted, int64_t label) {
  const at::Tensor of_label = -wanted.sum(0, true) / (wanted.size(0) + 1);
  return at::cat({wanted.slice(0, 0, label), at::zeros_like(of_label), wanted.slice(0, label)}) + of_label;
}

std::vector<double> numbers_of(const at::Tensor& values) {
  const double* first = values.const_data_ptr<double>();
  return {first, first + values.numel()};
}

// alpha and beta of one difference (approaches/docs/RA.md, Formulas). The test takes alpha * b, not b.
void map_to_limits(double low, double high, double offset, const RegionTarget& target,
                   RegionSolution& answer) {
  const double width = target.max_value - target.min_value;
  const double alpha = high - low <= width ? 1 : width / (high - low);
  low = alpha * (low + offset);
  high = alpha * (high + offset);
  double beta = 0;
  if (low < target.min_value) {
    beta = target.min_value - low;
  } else if (high > target.max_value) {
    beta = target.max_value - high;
  }
  answer.alpha.push_back(alpha);
  answer.beta.push_back(beta);
}

}  // namespace

RegionSolution solve_region(const LinearRegions& regions, int64_t number, int64_t label,
                            const RegionTarget& target, const Stop& stop) {
  RegionSolution answer;
  const at::Tensor directions = differences(regions.jacobian[number], label).contiguous();
  const at::Tensor offsets = differences(regions.offset[number], label);
  std::vector<double> highs = numbers_of(max_in_box(directions, target.low, target.high));
  std::vector<double> lows = numbers_of(min_in_box(directions, target.low, target.high));
  if (target.exact) {
    RegionRange region(regions.rows[number], regions.bounds[number], target.low, target.high, stop);
    // All maxima first: successive programs of one sense are near each other.
    for (const bool upper : {true, false}) {
      for (size_t j = 0; j < highs.size() && answer.outcome == lp::Outcome::optimal; ++j) {
        const auto row = static_cast<int64_t>(j);
        // The minimum matters only where it may be too low.
        const bool may_be_low = highs[j] - lows[j] > target.max_value - target.min_value ||
                                lows[j] + offsets[row].item<double>() < target.min_value;
        if (!upper && !may_be_low) continue;
        const Extreme found = upper ? region.max_value(directions[row]) : region.min_value(directions[row]);
        (upper ? highs : lows)[j] = found.value;
        answer.lower_programs += !upper;
        answer.outcome = found.outcome;
      }
    }
    answer.programs = region.programs();
    answer.iterations = region.iterations();
  }
  for (size_t j = 0; j < highs.size(); ++j)
    map_to_limits(lows[j], highs[j], offsets[static_cast<int64_t>(j)].item<double>(), target, answer);
  return answer;
}

AffinePatches affine_patches(const DenseHead& head, const at::Tensor& features,
                             const std::vector<int64_t>& labels, const std::vector<RegionSolution>& answers) {
  std::vector<at::Tensor> factors, constants;
  bool constant = true;
  for (size_t t = 0; t < answers.size(); ++t) {
    const at::Tensor alpha = at::tensor(answers[t].alpha, at::kDouble);
    at::Tensor wanted = at::tensor(answers[t].beta, at::kDouble);
    factors.push_back(at::zeros({head.output.units(), head.features()}, at::kDouble));
    if (!alpha.eq(1).all().item<bool>()) {
      const auto at = static_cast<int64_t>(t);
      const LinearRegions region = linear_regions(head, features.slice(0, at, at + 1));
      wanted = wanted + (alpha - 1) * differences(region.offset[0], labels[t]);
      factors.back() =
          with_differences((alpha - 1).unsqueeze(1) * differences(region.jacobian[0], labels[t]), labels[t]);
      constant = false;
    }
    constants.push_back(with_differences(wanted, labels[t]));
  }
  return {constant ? at::Tensor() : at::stack(factors), at::stack(constants)};
}

}  // namespace harness::regions
