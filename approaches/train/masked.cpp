#include "approaches/train/masked.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "approaches/locate/sampling.hpp"
#include "harness/core/error.hpp"

namespace harness::train {

FlatWeights::FlatWeights(const Network& network, std::vector<ParameterId> parameters)
    : network_(network), parameters_(std::move(parameters)), begins_{0} {
  if (parameters_.empty()) interface_misuse("no parameter to train");
  for (const ParameterId id : parameters_) {
    begins_.push_back(begins_.back() + network.parameters().at(id).value.numel());
  }
}

int64_t FlatWeights::begin_of(ParameterId parameter) const {
  const auto found = std::find(parameters_.begin(), parameters_.end(), parameter);
  return found == parameters_.end() ? -1 : begins_[static_cast<size_t>(found - parameters_.begin())];
}

at::Tensor FlatWeights::gather() const {
  std::vector<at::Tensor> parts;
  for (const ParameterId id : parameters_) parts.push_back(network_.parameters()[id].value.detach());
  return join(parts);
}

at::Tensor FlatWeights::join(const std::vector<at::Tensor>& parts) const {
  if (parts.size() != parameters_.size()) interface_misuse("not one tensor for each parameter");
  std::vector<at::Tensor> rows;
  for (const at::Tensor& part : parts) rows.push_back(part.reshape({-1}));
  return at::cat(rows);
}

void FlatWeights::write(Network& network, const at::Tensor& flat) const {
  for (size_t k = 0; k < parameters_.size(); ++k) {
    const at::Tensor part = flat.narrow(0, begins_[k], begins_[k + 1] - begins_[k]);
    network.set_parameter(parameters_[k], part.view(network.parameters()[parameters_[k]].value.sizes()));
  }
}

Touched FlatWeights::touched(const at::Tensor& moved) const {
  Touched touched;
  const at::Tensor on_cpu = moved.cpu();
  for (size_t k = 0; k < parameters_.size(); ++k) {
    const int64_t count = begins_[k + 1] - begins_[k];
    std::vector<int64_t> indices =
        locate::positions_of(on_cpu.narrow(0, begins_[k], count).nonzero().flatten());
    if (indices.empty()) continue;
    if (static_cast<int64_t>(indices.size()) == count) indices.clear();  // all of it
    touched.weights[network_.parameters()[parameters_[k]].name] = std::move(indices);
  }
  return touched;
}

std::vector<ParameterId> trainable_parameters(const Network& network) {
  std::vector<ParameterId> ids;
  for (size_t id = 0; id < network.parameters().size(); ++id) {
    const bool read = network.node_of(static_cast<ParameterId>(id)) >= 0;
    if (read && network.parameters()[id].trainable) ids.push_back(static_cast<ParameterId>(id));
  }
  return ids;
}

MaskedOptimiser::MaskedOptimiser(Network& network, std::vector<ParameterId> parameters, UpdateRule rule)
    : network_(network), layout_(network, std::move(parameters)), rule_(rule) {
  const at::NoGradGuard constant;
  values_ = layout_.gather();
  moved_ = at::zeros_like(values_, values_.options().dtype(at::kBool));
  if (rule_.kind == UpdateRule::Kind::adam || rule_.momentum != 0) first_ = at::zeros_like(values_);
  if (rule_.kind != UpdateRule::Kind::sgd) second_ = at::zeros_like(values_);
}

at::Tensor MaskedOptimiser::direction(const at::Tensor& gradient) {
  switch (rule_.kind) {
    case UpdateRule::Kind::sgd:
      if (!first_.defined()) return gradient;
      return first_.mul_(rule_.momentum).add_(gradient);
    case UpdateRule::Kind::rmsprop:
      second_.mul_(rule_.decay).addcmul_(gradient, gradient, 1 - rule_.decay);
      return gradient / second_.sqrt().add_(rule_.epsilon);
    case UpdateRule::Kind::adam:
      break;
  }
  const auto number = static_cast<double>(steps_ + 1);
  const double left1 = 1 - std::pow(rule_.beta1, number), left2 = 1 - std::pow(rule_.beta2, number);
  first_.mul_(rule_.beta1).add_(gradient, 1 - rule_.beta1);
  second_.mul_(rule_.beta2).addcmul_(gradient, gradient, 1 - rule_.beta2);
  return (first_ / left1).div_((second_.sqrt().div_(std::sqrt(left2))).add_(rule_.epsilon));
}

void MaskedOptimiser::step(const at::Tensor& gradient, const at::Tensor& mask) {
  const at::NoGradGuard constant;
  const at::Tensor zero = at::zeros({}, values_.options());
  const at::Tensor seen = mask.defined() ? at::where(mask, gradient, zero) : gradient;
  const at::Tensor change = direction(seen);
  // Subtracting a positive zero leaves every number as it was, a negative zero too.
  values_.sub_(mask.defined() ? at::where(mask, change, zero) : change, rule_.learning_rate);
  if (mask.defined()) {
    moved_.logical_or_(mask);
  } else {
    moved_.fill_(true);
  }
  layout_.write(network_, values_);
  ++steps_;
}

void MaskedOptimiser::save(CheckpointState& state, const std::string& prefix) const {
  state[prefix + ".steps"] = at::scalar_tensor(steps_, at::kLong);
  state[prefix + ".values"] = values_.cpu().clone();
  state[prefix + ".moved"] = moved_.cpu().clone();
  if (first_.defined()) state[prefix + ".first"] = first_.cpu().clone();
  if (second_.defined()) state[prefix + ".second"] = second_.cpu().clone();
}

void MaskedOptimiser::load(const CheckpointState& state, const std::string& prefix) {
  steps_ = state.at(prefix + ".steps").item<int64_t>();
  values_.copy_(state.at(prefix + ".values"));
  moved_.copy_(state.at(prefix + ".moved"));
  if (first_.defined()) first_.copy_(state.at(prefix + ".first"));
  if (second_.defined()) second_.copy_(state.at(prefix + ".second"));
  layout_.write(network_, values_);
}

}  // namespace harness::train
