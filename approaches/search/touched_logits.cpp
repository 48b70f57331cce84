#include "approaches/search/touched_logits.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace harness {
namespace {

constexpr int64_t kChunk = 512;  // inputs at a time: a chunk's arrays stay in the first-level cache
constexpr float kLowest = -std::numeric_limits<float>::infinity();

}  // namespace

TouchedLogits::TouchedLogits(const at::Tensor& inputs, const at::Tensor& logits, const at::Tensor& labels,
                             const at::Tensor& negative, std::vector<Weight> weights, const Fitness& fitness)
    : fitness_(fitness), count_(logits.size(0)), classes_(logits.size(1)), weights_(std::move(weights)) {
  for (const Weight& weight : weights_) {
    const auto place = std::find(touched_.begin(), touched_.end(), weight.label);
    class_of_weight_.push_back(place - touched_.begin());
    if (place == touched_.end()) touched_.push_back(weight.label);
  }
  const int64_t touched = static_cast<int64_t>(touched_.size());
  std::vector<int64_t> number(classes_, touched);  // of each class among the touched ones
  for (int64_t t = 0; t < touched; ++t) number[touched_[t]] = t;

  const auto label_at = labels.accessor<int64_t, 1>();
  const auto negative_at = negative.accessor<bool, 1>();
  std::vector<int64_t> order(count_);
  for (int64_t n = 0; n < count_; ++n) order[n] = n;
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return number[label_at[a]] < number[label_at[b]]; });

  const auto logit_at = logits.accessor<float, 2>();
  const auto input_at = inputs.accessor<float, 2>();
  unit_values_.resize(weights_.size() * count_);
  base_.resize(touched * count_);
  if (fitness_.compat_softmax) logits_.resize(count_ * classes_);
  for (int64_t position = 0; position < count_; ++position) {
    const int64_t n = order[position], label = label_at[n];
    const int64_t own = number[label] == touched ? -1 : number[label];
    if (blocks_.empty() || blocks_.back().own != own) blocks_.push_back({position, position, own});
    blocks_.back().end = position + 1;
    labels_.push_back(label);
    negative_.push_back(negative_at[n]);
    own_.push_back(logit_at[n][label]);
    for (size_t k = 0; k < weights_.size(); ++k) {
      unit_values_[k * count_ + position] = input_at[n][weights_[k].unit];
    }
    for (int64_t t = 0; t < touched; ++t) base_[t * count_ + position] = logit_at[n][touched_[t]];
    float top = kLowest, sum = 0;
    const auto is_rest = [&](int64_t c) { return number[c] == touched && c != label; };
    for (int64_t c = 0; c < classes_; ++c) {
      if (is_rest(c)) top = std::max(top, logit_at[n][c]);
      if (fitness_.compat_softmax) logits_[position * classes_ + c] = logit_at[n][c];
    }
    for (int64_t c = 0; c < classes_; ++c) {
      if (is_rest(c)) sum += std::exp(logit_at[n][c] - top);
    }
    rest_top_.push_back(top);
    rest_sum_.push_back(sum);
  }
}

Verdict TouchedLogits::judge(std::span<const double> candidate, double floor) const {
  std::vector<float> deltas(weights_.size());
  for (size_t k = 0; k < weights_.size(); ++k)
    deltas[k] = static_cast<float>(candidate[k]) - weights_[k].value;
  std::vector<float> buffer((touched_.size() + 1) * kChunk + 2 * classes_);
  Verdict verdict;
  for (const Block& block : blocks_) {
    for (int64_t begin = block.begin; begin < block.end; begin += kChunk) {
      judge_chunk(block, begin, std::min(block.end, begin + kChunk), deltas, buffer, verdict);
      if (fitness_.value(verdict) < floor) return verdict;
    }
  }
  return verdict;
}

void TouchedLogits::judge_chunk(const Block& block, int64_t begin, int64_t end, std::span<const float> deltas,
                                std::vector<float>& buffer, Verdict& verdict) const {
  const int64_t length = end - begin, touched = static_cast<int64_t>(touched_.size());
  float* const top = buffer.data() + touched * kChunk;
  for (int64_t t = 0; t < touched; ++t) {
    std::copy_n(base_.data() + t * count_ + begin, length, buffer.data() + t * kChunk);
  }
  for (size_t k = 0; k < deltas.size(); ++k) {
    const float delta = deltas[k];
    const float* const value = unit_values_.data() + k * count_ + begin;
    float* const logit = buffer.data() + class_of_weight_[k] * kChunk;
#pragma omp simd
    for (int64_t n = 0; n < length; ++n) logit[n] += delta * value[n];
  }
  std::copy_n(rest_top_.data() + begin, length, top);
  for (int64_t t = 0; t < touched; ++t) {
    if (t == block.own) continue;
    const float* const logit = buffer.data() + t * kChunk;
#pragma omp simd
    for (int64_t n = 0; n < length; ++n) top[n] = top[n] < logit[n] ? logit[n] : top[n];
  }
  const float* const own = block.own < 0 ? own_.data() + begin : buffer.data() + block.own * kChunk;
  for (int64_t n = 0; n < length; ++n) {
    if (own[n] > top[n]) continue;
    count_miss(verdict, negative_[begin + n],
               cross_entropy(begin + n, buffer.data() + n, block.own, own[n], top[n], top + kChunk));
  }
}

float TouchedLogits::cross_entropy(int64_t n, const float* touched_logits, int64_t own, float own_logit,
                                   float top, float* scratch) const {
  const int64_t touched = static_cast<int64_t>(touched_.size());
  if (fitness_.compat_softmax) {
    // Every class' probability moves, so there is nothing to be kept from the original.
    float* const row = scratch + classes_;
    std::copy_n(logits_.data() + n * classes_, classes_, row);
    for (int64_t t = 0; t < touched; ++t) row[touched_[t]] = touched_logits[t * kChunk];
    return fitness_.cross_entropy(row, classes_, labels_[n], scratch);
  }
  // The input is misclassified, so `top` is the largest logit of all.
  float sum = std::exp(own_logit - top);
  if (rest_sum_[n] > 0) sum += rest_sum_[n] * std::exp(rest_top_[n] - top);
  for (int64_t t = 0; t < touched; ++t) {
    if (t != own) sum += std::exp(touched_logits[t * kChunk] - top);
  }
  return std::log(sum) + top - own_logit;
}

}  // namespace harness
