#pragma once

#include <vector>

#include "harness/approach/approach.hpp"

namespace harness::routing {

// The network of the best epoch of a training, kept on the CPU. Empty until the first epoch is offered.
class BestEpoch {
 public:
  // Keeps the values of `changing` in `network` if the epoch is better than any offered before: by `clean`, a
  // share of inputs that are right, then by `faults`, a share that is wrong; or whatever they are, with
  // `wins`.
  void offer(const Network& network, const std::vector<ParameterId>& changing, int64_t epoch, double clean,
             double faults, bool wins);
  bool empty() const { return state_.empty(); }
  int64_t epoch() const;
  double clean() const;
  double faults() const;
  void write(Network& network, const std::vector<ParameterId>& changing) const;

  // Under names "best.*".
  void save(CheckpointState& state) const { state.insert(state_.begin(), state_.end()); }
  void load(const CheckpointState& state);

 private:
  CheckpointState state_;
};

}  // namespace harness::routing
