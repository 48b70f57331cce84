#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "harness/approach/approach.hpp"

namespace harness::train {

// Chosen parameters of a network as one flat row of numbers, each in row-major order: what gradients, masks
// and the state of an optimiser are laid out like.
class FlatWeights {
 public:
  // `network` must outlive it and the parameters be of one type.
  FlatWeights(const Network& network, std::vector<ParameterId> parameters);
  int64_t size() const { return begins_.back(); }
  const std::vector<ParameterId>& parameters() const { return parameters_; }
  int64_t begin(size_t k) const { return begins_[k]; }          // of parameters()[k]; begin(count) is size()
  int64_t begin_of(ParameterId parameter) const;                // -1: not among them
  at::Tensor gather() const;                                    // a copy (size), on the network's device
  at::Tensor join(const std::vector<at::Tensor>& parts) const;  // one tensor for each parameter, in order
  void write(Network& network, const at::Tensor& flat) const;
  Touched touched(const at::Tensor& moved) const;  // bool (size): the weights set in it

 private:
  const Network& network_;
  std::vector<ParameterId> parameters_;
  std::vector<int64_t> begins_;
};

// All parameters that training moves: weights, biases, the scale and shift of batch norm.
std::vector<ParameterId> trainable_parameters(const Network& network);

// An update rule, with PyTorch's formulas and defaults.
struct UpdateRule {
  enum class Kind { sgd, adam, rmsprop };
  Kind kind = Kind::sgd;
  double learning_rate = 0;
  double momentum = 0;                // sgd
  double decay = 0.99;                // rmsprop: part of the mean square that is kept
  double beta1 = 0.9, beta2 = 0.999;  // adam
  double epsilon = 1e-8;              // adam, rmsprop
};

// Optimiser steps that move only the weights a mask lets, which may differ from step to step. A masked weight
// keeps its bits, whatever its momentum; its moments see the gradient zero. State and arithmetic are flat
// rows on the network's device; a run restored from save() goes on bit for bit.
class MaskedOptimiser {
 public:
  MaskedOptimiser(Network& network, std::vector<ParameterId> parameters, UpdateRule rule);

  const FlatWeights& weights() const { return layout_; }
  // One step: `gradient` (size) of the loss; `mask` bool (size) of what may move, undefined: everything.
  void step(const at::Tensor& gradient, const at::Tensor& mask);
  int64_t steps() const { return steps_; }
  const at::Tensor& moved() const { return moved_; }  // bool (size): unmasked in at least one step

  // Values, moments and steps under names PREFIX.*, on the CPU.
  void save(CheckpointState& state, const std::string& prefix) const;
  void load(const CheckpointState& state, const std::string& prefix);

 private:
  at::Tensor direction(const at::Tensor& gradient);  // what is subtracted, over the learning rate

  Network& network_;
  FlatWeights layout_;
  UpdateRule rule_;
  int64_t steps_ = 0;
  at::Tensor values_, moved_;
  at::Tensor first_, second_;  // moments as the rule needs them: momentum or mean, mean square
};

}  // namespace harness::train
