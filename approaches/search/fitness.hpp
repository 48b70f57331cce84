#pragma once

#include <cstdint>
#include <functional>

namespace harness::search {

// What a candidate does to one set of inputs. While inputs are still missing, what is not known yet counts as
// correct.
struct Tally {
  int64_t inputs = 0;     // of the set
  int64_t misses = 0;     // misclassified
  double miss_score = 0;  // sum of 1/(CE+1) over the misclassified
  double loss = 0;        // sum of CE over all; Measure::losses only
  int64_t correct() const { return inputs - misses; }
};
struct Verdict {
  Tally positive, negative;
};

// What a fitness needs to know of an input: whether it is correct; CE where it is not; CE of all.
enum class Measure { counts, miss_scores, losses };

// What a search maximises, a function of the verdict on the whole of its inputs.
struct Objective {
  Measure measure = Measure::counts;
  // Each further input can only lower it: a candidate may be left as soon as it lies below a floor.
  bool falls = false;
  bool compat_softmax = false;  // CE of the softmax's output taken for logits, as some references do
  std::function<double(const Verdict&)> value;

  // Of one input from its logits, float32. `scratch` holds `classes` numbers.
  float cross_entropy(const float* logits, int64_t classes, int64_t label, float* scratch) const;
};

// Arachne's fitness (approaches/docs/AR.md, Formulas): sum of h over I_pos plus alpha times the sum of h over
// I_neg, h = 1 where the input is classified correctly and 1/(CE+1) elsewhere.
Objective arachne_objective(double alpha, bool compat_softmax);

// Adds one input. It is correct only where its label's logit lies above every other one; ties are misses.
inline void count_miss(Verdict& verdict, bool negative, float cross_entropy) {
  Tally& tally = negative ? verdict.negative : verdict.positive;
  ++tally.misses;
  tally.miss_score += static_cast<double>(1.0f / (cross_entropy + 1.0f));
}
inline void add_loss(Verdict& verdict, bool negative, float cross_entropy) {
  (negative ? verdict.negative : verdict.positive).loss += static_cast<double>(cross_entropy);
}

}  // namespace harness::search
