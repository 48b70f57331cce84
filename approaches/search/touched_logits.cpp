#include "approaches/search/touched_logits.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace harness::search {
namespace {

constexpr int64_t kChunk = 512;  // inputs at a time: a chunk's arrays stay in the first-level cache
constexpr float kLowest = -std::numeric_limits<float>::infinity();

}  // namespace

TouchedLogits::TouchedLogits(const at::Tensor& inputs, const at::Tensor& logits, const at::Tensor& labels,
                             const at::Tensor& negative, std::vector<Weight> weights,
                             const Objective& objective, const Verdict& blank)
    : objective_(objective),
      blank_(blank),
      count_(logits.size(0)),
      classes_(logits.size(1)),
      weights_(std::move(weights)) {
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
  order_.resize(count_);
  for (int64_t n = 0; n < count_; ++n) order_[n] = n;
  std::stable_sort(order_.begin(), order_.end(),
                   [&](int64_t a, int64_t b) { return number[label_at[a]] < number[label_at[b]]; });

  const auto logit_at = logits.accessor<float, 2>();
  const auto input_at = inputs.accessor<float, 2>();
  unit_values_.resize(weights_.size() * count_);
  base_.resize(touched * count_);
  if (objective_.compat_softmax) logits_.resize(count_ * classes_);
  for (int64_t position = 0; position < count_; ++position) {
    const int64_t n = order_[position], label = label_at[n];
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
    int32_t top_class = -1;
    const auto is_rest = [&](int64_t c) { return number[c] == touched && c != label; };
    for (int64_t c = 0; c < classes_; ++c) {
      if (is_rest(c) && !(logit_at[n][c] <= top)) {
        top = logit_at[n][c];
        top_class = static_cast<int32_t>(c);
      }
      if (objective_.compat_softmax) logits_[position * classes_ + c] = logit_at[n][c];
    }
    for (int64_t c = 0; c < classes_; ++c) {
      if (is_rest(c)) sum += std::exp(logit_at[n][c] - top);
    }
    rest_top_.push_back(top);
    rest_sum_.push_back(sum);
    rest_class_.push_back(top_class);
  }
}

std::vector<float> TouchedLogits::deltas_of(std::span<const double> candidate) const {
  std::vector<float> deltas(weights_.size());
  for (size_t k = 0; k < weights_.size(); ++k)
    deltas[k] = static_cast<float>(candidate[k]) - weights_[k].value;
  return deltas;
}

Verdict TouchedLogits::judge(std::span<const double> candidate, double floor) const {
  const std::vector<float> deltas = deltas_of(candidate);
  std::vector<float> buffer((touched_.size() + 1) * kChunk + 2 * classes_);
  Verdict verdict = blank_;
  for (const Block& block : blocks_) {
    for (int64_t begin = block.begin; begin < block.end; begin += kChunk) {
      judge_chunk(block, begin, std::min(block.end, begin + kChunk), deltas, buffer, verdict);
      if (objective_.falls && objective_.value(verdict) < floor) return verdict;
    }
  }
  return verdict;
}

void TouchedLogits::classify(std::span<const double> candidate, std::span<int32_t> classes) const {
  const std::vector<float> deltas = deltas_of(candidate);
  const int64_t touched = static_cast<int64_t>(touched_.size());
  std::vector<float> buffer((touched_.size() + 1) * kChunk);
  for (const Block& block : blocks_) {
    for (int64_t begin = block.begin; begin < block.end; begin += kChunk) {
      const int64_t length = std::min(block.end, begin + kChunk) - begin;
      fill_chunk(block, begin, begin + length, deltas, buffer);
      for (int64_t n = 0; n < length; ++n) {
        // the class of the label where that is not touched, then the touched ones; of equals the first class
        const int64_t at = begin + n;
        float best = rest_top_[at];
        int64_t found = rest_class_[at];
        const auto offer = [&](float logit, int64_t label) {
          if (found < 0 || logit > best || (logit == best && label < found)) {
            best = logit;
            found = label;
          }
        };
        if (block.own < 0) offer(own_[at], labels_[at]);
        for (int64_t t = 0; t < touched; ++t) offer(buffer[t * kChunk + n], touched_[t]);
        classes[order_[at]] = static_cast<int32_t>(found);
      }
    }
  }
}

// Rows of kChunk numbers: the logit of every touched class, then the largest logit beside the label's own.
void TouchedLogits::fill_chunk(const Block& block, int64_t begin, int64_t end, std::span<const float> deltas,
                               std::vector<float>& buffer) const {
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
}

void TouchedLogits::judge_chunk(const Block& block, int64_t begin, int64_t end, std::span<const float> deltas,
                                std::vector<float>& buffer, Verdict& verdict) const {
  fill_chunk(block, begin, end, deltas, buffer);
  float* const top = buffer.data() + static_cast<int64_t>(touched_.size()) * kChunk;
  const float* const own = block.own < 0 ? own_.data() + begin : buffer.data() + block.own * kChunk;
  const bool all = objective_.measure == Measure::losses, any = objective_.measure != Measure::counts;
  for (int64_t n = 0; n < end - begin; ++n) {
    const bool miss = !(own[n] > top[n]);
    if (!miss && !all) continue;
    const float loss =
        any ? cross_entropy(begin + n, buffer.data() + n, block.own, own[n], top[n], top + kChunk) : 0;
    if (miss) count_miss(verdict, negative_[begin + n], loss);
    if (all) add_loss(verdict, negative_[begin + n], loss);
  }
}

float TouchedLogits::cross_entropy(int64_t n, const float* touched_logits, int64_t own, float own_logit,
                                   float top, float* scratch) const {
  const int64_t touched = static_cast<int64_t>(touched_.size());
  if (objective_.compat_softmax) {
    // Every class' probability moves, so there is nothing to be kept from the original.
    float* const row = scratch + classes_;
    std::copy_n(logits_.data() + n * classes_, classes_, row);
    for (int64_t t = 0; t < touched; ++t) row[touched_[t]] = touched_logits[t * kChunk];
    return objective_.cross_entropy(row, classes_, labels_[n], scratch);
  }
  top = std::max(top, own_logit);  // of all
  float sum = std::exp(own_logit - top);
  if (rest_sum_[n] > 0) sum += rest_sum_[n] * std::exp(rest_top_[n] - top);
  for (int64_t t = 0; t < touched; ++t) {
    if (t != own) sum += std::exp(touched_logits[t * kChunk] - top);
  }
  return std::log(sum) + top - own_logit;
}

}  // namespace harness::search
