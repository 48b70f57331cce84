#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <vector>

#include "approaches/train/masked.hpp"

namespace harness::train {

// Gradients of several losses with respect to a network's weights, in evaluation mode, each loss a sum over
// inputs that come in chunks: one forward pass a chunk, then reverse sweeps in which every input has a seed
// of its own and every group of inputs adds to a sum of its own. Reverse sweeps go no further than the chosen
// weights; what a sweep costs depends on all inputs, not on the number of groups. Layer nodes whose
// derivative has no rule (harness/model/backward.hpp) go through autograd one by one. On one device, same
// results for the same chunks. Gain over autograd for each group apart (build/bench_fast, two groups, one
// thread, 64 images): 1.4 times on LeNet5, none on ResNet20, ResNet18 and VGG16 (0.9 to 1.0). What it saves
// is memory and, where groups share inputs, passes.
class WeightGradients {
 public:
  // `weights` and `network` must outlive it; values are read at each forward().
  WeightGradients(const Network& network, const FlatWeights& weights, size_t sums);
  ~WeightGradients();

  // Logits (n, classes) of x (n,C,H,W), without history. With a seed of its masks, dropout is active.
  at::Tensor forward(const at::Tensor& x, std::optional<uint64_t> dropout = std::nullopt);

  // A group: int64 numbers of inputs of the last forward(), undefined for all of them, and the sum they go
  // to.
  struct Group {
    at::Tensor inputs;
    size_t sum = 0;
  };
  // `seed`: d loss / d logits (n, classes). May be called several times after one forward().
  void backward(const at::Tensor& seed, const std::vector<Group>& groups);

  const at::Tensor& sum(size_t number) const;  // (weights.size()), on the device
  void clear();                                // all sums zero

 private:
  struct Implementation;
  std::unique_ptr<Implementation> self_;
};

// Inputs a chunk may have so that its activations stay within 256 MB, on a large GPU 1 GB: a function of the
// network's shapes and the device's memory class.
int64_t gradient_chunk(const Network& network, int64_t batch);

}  // namespace harness::train
