#pragma once

#include <optional>
#include <string>
#include <vector>

#include "approaches/batches.hpp"
#include "approaches/routing/kept_values.hpp"
#include "approaches/routing/probes.hpp"
#include "approaches/train/masked.hpp"
#include "harness/core/stop.hpp"

namespace harness::routing {

// A block under repair: its probe, and which weights of its kernel may move (bool, size of the kernel).
struct RepairedBlock {
  ProbedBlock block;
  Probe probe;
  at::Tensor mask;
};

struct BlockRepairSettings {
  double learning_rate = 0.0007;
  int64_t batch = 64;
  double alpha = 0.8, temperature = 3;  // cross-entropy against distillation, on the probe
  // Batch norm, dropout and probes in train mode: clean inputs, then faults, each go through the whole
  // network, which moves all running averages. Else all is in evaluation mode, up to the probe where that is
  // enough.
  bool train_mode = false;
  std::optional<int64_t> cache_limit = std::nullopt;  // bytes of kept values; see KeptValues
  uint64_t seed = 0;                                  // of dropout
  Stop stop = {};                                     // checked before each batch
};

// The masked training of INNER (approaches/docs/IN.md, Formulas: phases 1 and 2): plain gradient descent on
// one block's kernel, where its mask lets it, and bias, with all else as it is. Inputs keep their order.
class BlockRepair {
 public:
  // Trains `network` in place; all arguments but the settings must outlive it.
  BlockRepair(Network& network, std::vector<RepairedBlock> blocks, const InputSet& faulty,
              const InputSet& clean, const BlockRepairSettings& settings);
  BlockRepair(const BlockRepair&) = delete;

  size_t blocks() const { return blocks_.size(); }
  // One pass of the faults for block `k`: on its probe, faults paired with clean inputs by position as far as
  // there are pairs; or on the network's output. `pass`: a number no other pass has. False: the loss of some
  // step was not finite, and the network is of no use any more. Stopped, a pass has been made in part: load()
  // an earlier state.
  bool train_on_probe(size_t k, int64_t pass);
  bool train_on_output(size_t k, int64_t pass);

  int64_t steps() const;    // of all blocks
  Touched touched() const;  // running averages included
  // What any pass may change: kernels and biases of the blocks, running averages.
  const std::vector<ParameterId>& changing() const { return changing_; }
  const std::vector<ParameterId>& averages() const { return averages_; }  // the latter alone
  std::vector<NodeId> layers() const;                                     // of the blocks
  // Weights, running averages and probes, under names "repair.*"; a run restored from it goes on bit for bit.
  void save(CheckpointState& state) const;
  void load(const CheckpointState& state);

 private:
  template <typename Loss>
  bool train(size_t k, int64_t pass, int64_t inputs, const Loss& loss);
  at::Tensor probe_loss(const RepairedBlock& of, int64_t begin, int64_t end, const PassMode& mode);
  at::Tensor probe_logits(const RepairedBlock& of, const InputSet& inputs, int64_t begin, int64_t end,
                          const PassMode& mode);

  Network& network_;
  std::vector<RepairedBlock> blocks_;
  const InputSet &faulty_, &clean_;
  BlockRepairSettings settings_;
  std::vector<train::MaskedOptimiser> optimisers_;
  std::vector<at::Tensor> masks_;      // of kernel and bias
  std::vector<ParameterId> averages_;  // running averages that passes in train mode move
  std::vector<ParameterId> changing_;
  std::optional<KeptValues> kept_;
};

}  // namespace harness::routing
