#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "harness/approach/approach.hpp"

namespace harness::locate {

// What the network says of every input of a split.
struct Judgement {
  at::Tensor labels, predictions;       // int64 (N), CPU
  std::vector<int64_t> correct, wrong;  // positions, ascending
};
Judgement judgement_of(const at::Tensor& labels, const at::Tensor& predictions);
Judgement judge_split(const Network& network, const Split& split, const Batching& batching);

// Inputs of class `label` that are taken for class `predicted`; positions, ascending.
struct ErrorType {
  int64_t label = 0, predicted = 0;
  std::vector<int64_t> negatives;
};
// All there are, the most frequent first (of equals the one of the smaller label, then prediction).
std::vector<ErrorType> error_types(const Judgement& judgement);

// Which of the misclassified inputs a fix is to repair (approaches/docs/AR.md, Hyper-parameters). The
// others belong to neither set.
struct NegativeChoice {
  std::string which = "fraction";  // all | fraction | pair
  double fraction = 0.1;           // of the misclassified inputs, rounded down, at least one
  int64_t pair_rank = 1;           // pair: the n-th most frequent (label, prediction) pair
};
// Positions, ascending; empty where there is no misclassified input, or no pair of that rank.
std::vector<int64_t> choose_negatives(const Judgement& judgement, const NegativeChoice& choice,
                                      RandomStream& stream);

// Positives to hold against `negatives` faults: all where there are no more of them, else of every class its
// share of round(negatives * correct_c / correct), at least one and at most what there is. Positions,
// ascending.
std::vector<int64_t> matching_positives(const Judgement& judgement, int64_t negatives, RandomStream& stream);

}  // namespace harness::locate
