#include "approaches/search/inputs.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace harness::search {

SearchInputs::SearchInputs(const Network& network, std::vector<InputSet> sets)
    : network_(network), sets_(std::move(sets)) {
  std::vector<at::Tensor> labels = {at::empty({0}, at::kLong)}, negative = {at::empty({0}, at::kBool)};
  int64_t total = 0;
  for (const InputSet& set : sets_) {
    const auto count = static_cast<int64_t>(set.positions.size());
    labels.push_back(set.split->labels().index_select(0, at::tensor(set.positions, at::kLong)));
    negative.push_back(at::full({count}, set.negative, at::kBool));
    ends_.push_back(total += count);
  }
  labels_ = at::cat(labels);
  negative_ = at::cat(negative);
}

at::Tensor SearchInputs::load(const at::Tensor& numbers) const {
  const at::Tensor wanted = numbers.contiguous();
  std::vector<std::vector<int64_t>> positions(sets_.size()), places(sets_.size());
  for (int64_t i = 0; i < wanted.numel(); ++i) {
    const int64_t number = wanted.const_data_ptr<int64_t>()[i];
    const auto s = static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), number) - ends_.begin());
    positions[s].push_back(sets_[s].positions[static_cast<size_t>(number - (s == 0 ? 0 : ends_[s - 1]))]);
    places[s].push_back(i);
  }
  std::vector<at::Tensor> parts;
  std::vector<int64_t> order(static_cast<size_t>(wanted.numel()));
  int64_t next = 0;
  for (size_t s = 0; s < sets_.size(); ++s) {
    if (positions[s].empty()) continue;
    parts.push_back(sets_[s].split->inputs(at::tensor(positions[s], at::kLong)));
    for (const int64_t place : places[s]) order[static_cast<size_t>(place)] = next++;
  }
  if (parts.size() == 1) return parts[0].to(network_.device());
  return at::cat(parts).index_select(0, at::tensor(order, at::kLong)).to(network_.device());
}

Verdict SearchInputs::blank() const {
  Verdict verdict;
  verdict.negative.inputs = negative_.sum().item<int64_t>();
  verdict.positive.inputs = size() - verdict.negative.inputs;
  return verdict;
}

void count(const at::Tensor& logits, const at::Tensor& numbers, const SearchInputs& inputs,
           const Objective& objective, Verdict& verdict) {
  const at::Tensor rows = logits.to(at::kCPU, at::kFloat).contiguous();
  const int64_t* const number = numbers.const_data_ptr<int64_t>();
  const int64_t* const label = inputs.labels().const_data_ptr<int64_t>();
  const bool* const negative = inputs.negative().const_data_ptr<bool>();
  const int64_t classes = rows.size(1);
  std::vector<float> scratch(static_cast<size_t>(classes));
  for (int64_t n = 0; n < rows.size(0); ++n) {
    const float* const row = rows.const_data_ptr<float>() + n * classes;
    const int64_t own_class = label[number[n]];
    const float own = row[own_class];
    bool above = true;
    for (int64_t c = 0; c < classes; ++c) above &= c == own_class || own > row[c];
    const bool needed =
        objective.measure == Measure::losses || (!above && objective.measure == Measure::miss_scores);
    const float loss = needed ? objective.cross_entropy(row, classes, own_class, scratch.data()) : 0;
    if (!above) count_miss(verdict, negative[number[n]], loss);
    if (objective.measure == Measure::losses) add_loss(verdict, negative[number[n]], loss);
  }
}

}  // namespace harness::search
