#include "approaches/routing/best_epoch.hpp"

#include <ATen/ATen.h>

namespace harness::routing {
namespace {

std::string name_of(ParameterId id) {
  return "best.value." + std::to_string(id);
}

}  // namespace

void BestEpoch::offer(const Network& network, const std::vector<ParameterId>& changing, int64_t epoch,
                      double clean, double faults, bool wins) {
  const bool better = empty() || clean > this->clean() || (clean == this->clean() && faults < this->faults());
  if (!better && !wins) return;
  state_ = {{"best.epoch", at::scalar_tensor(epoch, at::kLong)},
            {"best.clean", at::scalar_tensor(clean, at::kDouble)},
            {"best.faults", at::scalar_tensor(faults, at::kDouble)}};
  for (const ParameterId id : changing)
    state_[name_of(id)] = network.parameters()[id].value.detach().to(at::kCPU, /*non_blocking=*/false,
                                                                     /*copy=*/true);
}

int64_t BestEpoch::epoch() const {
  return state_.at("best.epoch").item<int64_t>();
}
double BestEpoch::clean() const {
  return state_.at("best.clean").item<double>();
}
double BestEpoch::faults() const {
  return state_.at("best.faults").item<double>();
}

void BestEpoch::write(Network& network, const std::vector<ParameterId>& changing) const {
  for (const ParameterId id : changing) network.set_parameter(id, state_.at(name_of(id)));
}

void BestEpoch::load(const CheckpointState& state) {
  state_.clear();
  for (const auto& [name, value] : state) {
    if (name.starts_with("best.")) state_[name] = value;
  }
}

}  // namespace harness::routing
