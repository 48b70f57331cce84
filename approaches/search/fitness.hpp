#pragma once

#include <cmath>
#include <cstdint>

namespace harness {

// What a candidate does to one set of inputs: how many it misclassifies, and the sum over these of 1/(CE+1).
struct Misses {
  int64_t count = 0;
  double score = 0;
};
struct Verdict {
  Misses positive, negative;
};

// Arachne's fitness (card arachne.md step 5.3): sum of h over I_pos plus alpha times the sum of h over I_neg,
// h = 1 where the input is classified correctly and 1/(CE+1) elsewhere. While inputs are still missing in a
// verdict, value() is an upper bound; with all of them it is the fitness.
struct Fitness {
  int64_t positives = 0, negatives = 0;
  double alpha = 10;
  bool compat_softmax = false;  // CE of the softmax's output taken for logits, as the reference does

  double value(const Verdict& verdict) const {
    return (static_cast<double>(positives - verdict.positive.count) + verdict.positive.score) +
           alpha * (static_cast<double>(negatives - verdict.negative.count) + verdict.negative.score);
  }
  // Of one input from its logits, float32. `scratch` holds `classes` numbers.
  float cross_entropy(const float* logits, int64_t classes, int64_t label, float* scratch) const;
};

// Adds one input. It is correct only where its label's logit lies above every other one; ties are misses.
inline void count_miss(Verdict& verdict, bool negative, float cross_entropy) {
  Misses& misses = negative ? verdict.negative : verdict.positive;
  ++misses.count;
  misses.score += static_cast<double>(1.0f / (cross_entropy + 1.0f));
}

}  // namespace harness
