#include "approaches/train/kept_weights.hpp"

#include <ATen/ATen.h>

namespace harness::train {

void KeptWeights::offer(const MaskedOptimiser& optimiser, double accuracy_now, int64_t still_wrong_now) {
  if (any() && accuracy_now < accuracy) return;
  step = optimiser.steps();
  accuracy = accuracy_now;
  still_wrong = still_wrong_now;
  values = optimiser.weights().gather();
  moved = optimiser.moved().clone();
}

void KeptWeights::save(CheckpointState& state, const std::string& prefix) const {
  if (!any()) return;
  state[prefix + ".step"] = at::scalar_tensor(step, at::kLong);
  state[prefix + ".accuracy"] = at::scalar_tensor(accuracy, at::kDouble);
  state[prefix + ".still_wrong"] = at::scalar_tensor(still_wrong, at::kLong);
  state[prefix + ".values"] = values.cpu().clone();
  state[prefix + ".moved"] = moved.cpu().clone();
}

void KeptWeights::load(const CheckpointState& state, const std::string& prefix,
                       const MaskedOptimiser& optimiser) {
  if (state.count(prefix + ".step") == 0) return;
  step = state.at(prefix + ".step").item<int64_t>();
  accuracy = state.at(prefix + ".accuracy").item<double>();
  still_wrong = state.at(prefix + ".still_wrong").item<int64_t>();
  values = state.at(prefix + ".values").to(optimiser.moved().device());
  moved = state.at(prefix + ".moved").to(optimiser.moved().device());
}

}  // namespace harness::train
