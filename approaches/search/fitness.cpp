#include "approaches/search/fitness.hpp"

#include <algorithm>
#include <cmath>

namespace harness::search {

float Objective::cross_entropy(const float* logits, int64_t classes, int64_t label, float* scratch) const {
  const float top = *std::max_element(logits, logits + classes);
  float sum = 0;
  for (int64_t c = 0; c < classes; ++c) sum += scratch[c] = std::exp(logits[c] - top);
  if (!compat_softmax) return std::log(sum) + top - logits[label];
  float again = 0;
  for (int64_t c = 0; c < classes; ++c) again += std::exp(scratch[c] / sum);
  return std::log(again) - scratch[label] / sum;
}

Objective arachne_objective(double alpha, bool compat_softmax) {
  return {.measure = Measure::miss_scores,
          .falls = true,
          .compat_softmax = compat_softmax,
          .value = [alpha](const Verdict& verdict) {
            const auto sum = [](const Tally& tally) {
              return static_cast<double>(tally.correct()) + tally.miss_score;
            };
            return sum(verdict.positive) + alpha * sum(verdict.negative);
          }};
}

}  // namespace harness::search
