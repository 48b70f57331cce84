#pragma once

#include <string>

#include "approaches/train/masked.hpp"

namespace harness::train {

// The weights of a training that did best on inputs held back for that, with what has to be known of them.
struct KeptWeights {
  int64_t step = -1;  // optimiser steps made before; -1: none are kept yet
  double accuracy = 0;
  int64_t still_wrong = 0;   // inputs of the training's own goal
  at::Tensor values, moved;  // as MaskedOptimiser lays them out, on its device

  bool any() const { return step >= 0; }
  // Takes the network's present weights if their accuracy is no lower than that of the kept ones.
  void offer(const MaskedOptimiser& optimiser, double accuracy_now, int64_t still_wrong_now);

  // Under names PREFIX.*, on the CPU; nothing where none are kept. load() puts tensors on the optimiser's
  // device.
  void save(CheckpointState& state, const std::string& prefix) const;
  void load(const CheckpointState& state, const std::string& prefix, const MaskedOptimiser& optimiser);
};

}  // namespace harness::train
