#pragma once

#include <memory>
#include <optional>

#include "harness/approach/approach.hpp"

namespace harness::train {

// Plain training of a network on one split: mean cross-entropy of the logits, a subject's recipe (optimiser,
// learning rate, momentum, weight decay, batch, augmentation; `epochs` is the caller's). Every epoch visits
// the split in a new seeded order in full batches (a split smaller than a batch is one batch; what is left
// over of an epoch is skipped, so that batch norm never sees a lone image). Order, augmentation and dropout
// depend on the seed and the step alone: a run restored from state() goes on bit for bit.
class Trainer {
 public:
  // Trains `network` in place; both outlive the trainer. `resumed` is a state() of the same training.
  Trainer(Network& network, const Split& split, const TrainingConfig& recipe, uint64_t seed,
          const std::optional<CheckpointState>& resumed = std::nullopt);
  ~Trainer();  // the network's parameters no longer require grad then
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  // One optimiser step on the next batch; that batch' loss before it, a number on the network's device:
  // reading it waits for the device, so it is kept until somebody needs it.
  at::Tensor step();
  int64_t steps() const;  // made so far, those before the resumption included
  int64_t steps_per_epoch() const;
  CheckpointState state() const;  // under names "trainer.*", on the CPU

 private:
  struct Implementation;
  std::unique_ptr<Implementation> self_;
};

// The recipe of a subject that names none: Adam, small steps, as continued training wants.
TrainingConfig default_recipe();

// Why the network cannot be retrained: operator, structure.
std::optional<Refusal> refuse_without_training(const FixRequest& request);

}  // namespace harness::train
