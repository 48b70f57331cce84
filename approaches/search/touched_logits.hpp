#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "approaches/search/fitness.hpp"

namespace harness::search {

// Verdicts on candidates that change only some weights of the last dense layer. Logits change in the touched
// classes alone, z_c += a_i (v - w), so one evaluation costs O(N (weights + touched classes)) and the rest of
// the network is never run again. Plain arrays on the CPU; const calls may come from several threads.
class TouchedLogits {
 public:
  struct Weight {
    int64_t label = 0;  // the class, row of the kernel
    int64_t unit = 0;   // input unit, column of the kernel
    float value = 0;    // as it is
  };
  // inputs (N, units) of the layer and its logits (N, classes), float32; labels int64 (N), negative bool (N).
  TouchedLogits(const at::Tensor& inputs, const at::Tensor& logits, const at::Tensor& labels,
                const at::Tensor& negative, std::vector<Weight> weights, const Objective& objective,
                const Verdict& blank);

  // Verdict on one candidate (a value for each weight, rounded to float32). Ends early once its fitness is
  // known to lie below `floor`.
  Verdict judge(std::span<const double> candidate, double floor) const;
  // Its class of every input, in the order given to the constructor.
  void classify(std::span<const double> candidate, std::span<int32_t> classes) const;

 private:
  struct Block {
    int64_t begin = 0, end = 0;
    int64_t own =
        -1;  // number of the touched class that is the label of all inputs of the block; -1: none is
  };
  std::vector<float> deltas_of(std::span<const double> candidate) const;
  void fill_chunk(const Block& block, int64_t begin, int64_t end, std::span<const float> deltas,
                  std::vector<float>& buffer) const;
  void judge_chunk(const Block& block, int64_t begin, int64_t end, std::span<const float> deltas,
                   std::vector<float>& buffer, Verdict& verdict) const;
  float cross_entropy(int64_t n, const float* touched_logits, int64_t own, float own_logit, float top,
                      float* scratch) const;

  // All arrays are in one order of the inputs: those of each touched class together, then all others.
  Objective objective_;
  Verdict blank_;
  int64_t count_ = 0, classes_ = 0;
  std::vector<int64_t> touched_;  // the touched classes
  std::vector<Weight> weights_;
  std::vector<int64_t> class_of_weight_;  // position in touched_
  std::vector<Block> blocks_;
  std::vector<float> unit_values_;          // (weights, N): a_i of every weight
  std::vector<float> base_;                 // (touched, N): original logits of the touched classes
  std::vector<float> own_;                  // (N): original logit of the label
  std::vector<float> rest_top_, rest_sum_;  // (N): maximum, and sum of exp(z - maximum), of the classes that
                                            // are neither touched nor the label
  std::vector<int32_t> rest_class_;         // (N): where that maximum is
  std::vector<int64_t> order_;              // (N): number of the input as it was given
  std::vector<int64_t> labels_;
  std::vector<uint8_t> negative_;
  std::vector<float> logits_;  // (N, classes), only with compat_softmax
};

}  // namespace harness::search
