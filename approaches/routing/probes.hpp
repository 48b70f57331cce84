#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "approaches/routing/blocks.hpp"
#include "harness/core/stop.hpp"

namespace harness::routing {

// A small classifier that reads a block's output: (n, block output) -> logits (n, classes)
// (approaches/docs/IN.md, Steps in this project, 3). Lives on the device of the values it was made for.
class Probe {
 public:
  // `shape`: of the block's output. Weights as PyTorch initialises them, drawn from `seed`.
  Probe(int depth, const std::vector<int64_t>& shape, int64_t classes, uint64_t seed, at::Device device);

  // In train mode batch norm uses the batch's statistics and updates its running averages.
  at::Tensor logits(const at::Tensor& values, bool training) const;
  std::vector<at::Tensor> trained() const;  // what training moves
  void require_grad(bool on) const;
  std::vector<at::Tensor> state() const;  // copies, running averages included
  void restore(const std::vector<at::Tensor>& state) const;
  // All of it under names PREFIX.0, PREFIX.1 and so on, on the CPU.
  void save(CheckpointState& state, const std::string& prefix) const;
  void load(const CheckpointState& state, const std::string& prefix) const;

 private:
  enum class Kind { conv, batch_norm, relu, pool, linear };
  struct Layer {
    Kind kind;
    int64_t stride = 1;
    std::vector<at::Tensor> tensors = {};  // weight, bias; batch norm: running mean and variance too
  };
  std::vector<Layer> layers_;
};

struct ProbeTraining {
  double learning_rate = 0.01;  // Adam
  int64_t epochs = 50, batch = 128;
  uint64_t seed = 0;  // of the order of the inputs
  Stop stop = {};     // checked before each batch
};

// Trains on a block's outputs `values` (n, ...) and true labels (n), and keeps the state of the epoch with
// the highest training accuracy, which is returned. A stopped probe is of no use.
double train_probe(const Probe& probe, const at::Tensor& values, const at::Tensor& labels,
                   const ProbeTraining& settings);

// Mean over the inputs of what the probe gives each class (classes), evaluation mode.
at::Tensor mean_probabilities(const Probe& probe, const at::Tensor& values);

// -sum_k faulty[k] log(clean[k] + 1e-7), in nats, for mean class probabilities (classes) of two sets of
// inputs (approaches/docs/IN.md, Formulas: anomaly score).
double anomaly_score(const at::Tensor& clean, const at::Tensor& faulty);

}  // namespace harness::routing
