#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "harness/core/stop.hpp"
#include "harness/data/dataset.hpp"
#include "harness/model/network.hpp"

namespace harness {

// Some inputs of one split, in an order of their own.
struct InputSet {
  const Split* split = nullptr;    // must outlive it
  std::vector<int64_t> positions;  // in the split, repeats allowed
  bool negative = false;           // in a search: inputs to be fixed; else inputs to be kept
  int64_t size() const { return static_cast<int64_t>(positions.size()); }
  at::Tensor load(int64_t begin, int64_t end, at::Device device) const;    // network inputs
  at::Tensor labels(int64_t begin, int64_t end, at::Device device) const;  // int64
};

// The inputs begin .. begin + n - 1 of a pass.
struct Batch {
  int64_t begin = 0;
  at::Tensor x;       // network inputs, on the network's device
  at::Tensor labels;  // int64 (n), CPU
};
Batch batch_of(const Network& network, const Split& split, int64_t begin, int64_t end);
Batch batch_of(const Network& network, const InputSet& inputs, int64_t begin, int64_t end);

// One pass over all inputs of a split or of a set, in order: calls `see` for each batch. Where `see` returns
// a bool, false ends the pass.
template <typename Inputs, typename See>
void for_each_batch(const Network& network, const Inputs& inputs, const Batching& batching, const See& see) {
  for (int64_t begin = 0; begin < inputs.size(); begin += batching.batch) {
    batching.stop.check();
    const Batch batch = batch_of(network, inputs, begin, std::min(inputs.size(), begin + batching.batch));
    if constexpr (std::is_same_v<std::invoke_result_t<See, const Batch&>, bool>) {
      if (!see(batch)) return;
    } else {
      see(batch);
    }
  }
}

// Classes that the network gives: int64 (N), CPU.
at::Tensor predict(const Network& network, const Split& split, const Batching& batching);
at::Tensor predict(const Network& network, const InputSet& inputs, const Batching& batching);

// Part of the inputs that the network classifies correctly; of no inputs at all: 0.
double accuracy(const Network& network, const InputSet& inputs, const Batching& batching);

}  // namespace harness
