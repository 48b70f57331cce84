#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "approaches/localise/faults.hpp"
#include "harness/core/random.hpp"
#include "harness/core/stop.hpp"
#include "harness/data/dataset.hpp"
#include "harness/model/network.hpp"

namespace harness {

// Some inputs of one split, in an order of their own.
struct LabelledInputs {
  const Split* split = nullptr;    // must outlive it
  std::vector<int64_t> positions;  // in the split
  int64_t size() const { return static_cast<int64_t>(positions.size()); }
  at::Tensor load(int64_t begin, int64_t end, at::Device device) const;    // network inputs
  at::Tensor labels(int64_t begin, int64_t end, at::Device device) const;  // int64
};

// Part of the inputs that the network classifies correctly; of no inputs at all: 0.
double accuracy(const Network& network, const LabelledInputs& inputs, const Batching& batching);

// Positions (ascending) of at most `most` of the misclassified inputs, drawn one class after the other in
// turn, so that no class has more than one more than another that is not used up; all of them for 0.
std::vector<int64_t> balanced_faults(const Judgement& judgement, int64_t maximum, RandomStream& stream);

// Positions (ascending) of `quota` correctly classified inputs of each class, fewer where there are not so
// many; judges no more of the split than that takes.
std::vector<int64_t> correct_of_each_class(const Network& network, const Split& split, int64_t quota,
                                           const Batching& batching, RandomStream& stream);

}  // namespace harness
