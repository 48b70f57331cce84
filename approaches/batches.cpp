#include "approaches/batches.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace harness {
namespace {

at::Tensor positions_between(const InputSet& inputs, int64_t begin, int64_t end) {
  const auto first = inputs.positions.begin();
  return at::tensor(std::vector<int64_t>(first + begin, first + end), at::kLong);
}

template <typename Inputs>
at::Tensor classes_of(const Network& network, const Inputs& inputs, const Batching& batching) {
  std::vector<at::Tensor> parts = {at::empty({0}, at::kLong)};
  for_each_batch(network, inputs, batching,
                 [&](const Batch& batch) { parts.push_back(network.classify(batch.x).cpu()); });
  return at::cat(parts);
}

}  // namespace

at::Tensor InputSet::load(int64_t begin, int64_t end, at::Device device) const {
  return split->inputs(positions_between(*this, begin, end)).to(device);
}

at::Tensor InputSet::labels(int64_t begin, int64_t end, at::Device device) const {
  return split->labels().index_select(0, positions_between(*this, begin, end)).to(device);
}

Batch batch_of(const Network& network, const Split& split, int64_t begin, int64_t end) {
  return {begin, split.inputs(begin, end).to(network.device()), split.labels().slice(0, begin, end)};
}

Batch batch_of(const Network& network, const InputSet& inputs, int64_t begin, int64_t end) {
  return {begin, inputs.load(begin, end, network.device()), inputs.labels(begin, end, at::kCPU)};
}

at::Tensor predict(const Network& network, const Split& split, const Batching& batching) {
  return classes_of(network, split, batching);
}

at::Tensor predict(const Network& network, const InputSet& inputs, const Batching& batching) {
  return classes_of(network, inputs, batching);
}

double accuracy(const Network& network, const InputSet& inputs, const Batching& batching) {
  // Counted on the device, which is waited for once.
  at::Tensor right = at::zeros({}, at::TensorOptions(at::kLong).device(network.device()));
  for_each_batch(network, inputs, batching, [&](const Batch& batch) {
    right.add_((network.classify(batch.x) == batch.labels.to(network.device())).sum());
  });
  return static_cast<double>(right.item<int64_t>()) /
         static_cast<double>(std::max<int64_t>(1, inputs.size()));
}

}  // namespace harness
