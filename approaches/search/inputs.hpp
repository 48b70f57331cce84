#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "approaches/batches.hpp"
#include "approaches/search/fitness.hpp"

namespace harness::search {

// All inputs of a search in one list: the sets one after the other.
class SearchInputs {
 public:
  SearchInputs(const Network& network, std::vector<InputSet> sets);
  int64_t size() const { return labels_.size(0); }
  const at::Tensor& labels() const { return labels_; }      // int64 (N), CPU
  const at::Tensor& negative() const { return negative_; }  // bool (N), CPU
  // Network inputs with these numbers (int64, any order), on the network's device.
  at::Tensor load(const at::Tensor& numbers) const;
  // A verdict on nothing yet: the sizes of both sets.
  Verdict blank() const;

 private:
  const Network& network_;
  std::vector<InputSet> sets_;
  std::vector<int64_t> ends_;  // running totals of the sets' sizes
  at::Tensor labels_, negative_;
};

// Adds the inputs `numbers` (int64, CPU) with these logits (n, classes; any device) to a verdict.
void count(const at::Tensor& logits, const at::Tensor& numbers, const SearchInputs& inputs,
           const Objective& objective, Verdict& verdict);

}  // namespace harness::search
