#include "approaches/search/verified_best.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace harness::search {
namespace {

constexpr const char* kNames[] = {"verified.values", "verified.details", "verified.series", "verified.last"};

}  // namespace

void VerifiedBest::settle(const EvolutionState& state, const EvolutionBest& best) {
  if (std::ssize(series_) >= state.generation) return;  // was done before the search was interrupted
  std::vector<double> values(best.values.begin(), best.values.end());
  if (values != last_) {
    const double floor = any() ? fitness_ - best.fitness : -std::numeric_limits<double>::infinity();
    double found = 0;
    Verdict verdict;
    rest_.evaluate(values, std::span(&floor, 1), std::span(&found, 1), std::span(&verdict, 1));
    // below its floor the number need not be the whole one; what is not a number is no best
    const double whole = best.fitness + found;
    if (!std::isnan(whole) && (!any() || (found >= floor && whole > fitness_))) {
      values_ = values;
      fitness_ = whole;
      details_.assign(best.details.begin(), best.details.end());
      const std::vector<double> of_rest = details_of(verdict);
      for (size_t k = 0; k < details_.size(); ++k) details_[k] += of_rest[k];
    }
    last_ = std::move(values);
  }
  series_.resize(static_cast<size_t>(state.generation), fitness_);
}

void VerifiedBest::save(CheckpointState& tensors) const {
  const std::vector<double>* const of[] = {&values_, &details_, &series_, &last_};
  for (size_t k = 0; k < std::size(kNames); ++k) tensors[kNames[k]] = at::tensor(*of[k], at::kDouble);
  tensors["verified.fitness"] = at::scalar_tensor(fitness_, at::kDouble);
}

void VerifiedBest::load(const CheckpointState& tensors) {
  std::vector<double>* const to[] = {&values_, &details_, &series_, &last_};
  for (size_t k = 0; k < std::size(kNames); ++k) {
    const at::Tensor& kept = tensors.at(kNames[k]);
    to[k]->assign(kept.const_data_ptr<double>(), kept.const_data_ptr<double>() + kept.numel());
  }
  fitness_ = tensors.at("verified.fitness").item<double>();
}

std::vector<double> details_of(const Verdict& verdict) {
  return {static_cast<double>(verdict.negative.correct()), static_cast<double>(verdict.positive.misses)};
}

}  // namespace harness::search
