#include "approaches/search/fitness.hpp"

#include <algorithm>

namespace harness {

float Fitness::cross_entropy(const float* logits, int64_t classes, int64_t label, float* scratch) const {
  const float top = *std::max_element(logits, logits + classes);
  float sum = 0;
  for (int64_t c = 0; c < classes; ++c) sum += scratch[c] = std::exp(logits[c] - top);
  if (!compat_softmax) return std::log(sum) + top - logits[label];
  float again = 0;
  for (int64_t c = 0; c < classes; ++c) again += std::exp(scratch[c] / sum);
  return std::log(again) - scratch[label] / sum;
}

}  // namespace harness
