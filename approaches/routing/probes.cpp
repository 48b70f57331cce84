#include "approaches/routing/probes.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/optim/adam.h>

#include <algorithm>
#include <cmath>

namespace harness::routing {

Probe::Probe(int depth, const std::vector<int64_t>& shape, int64_t classes, uint64_t seed,
             at::Device device) {
  const at::NoGradGuard constant;
  const at::Generator draws = at::detail::createCPUGenerator(seed);
  const auto weights = [&](std::vector<int64_t> sizes) {
    int64_t fan_in = 1;
    for (size_t k = 1; k < sizes.size(); ++k) fan_in *= sizes[k];
    const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
    const at::Tensor weight = at::empty(sizes, at::kFloat).uniform_(-bound, bound, draws);
    const at::Tensor bias = at::empty({sizes[0]}, at::kFloat).uniform_(-bound, bound, draws);
    return std::vector<at::Tensor>{weight.to(device), bias.to(device)};
  };
  const auto conv = [&](int64_t from, int64_t to, int64_t window, int64_t stride) {
    layers_.push_back({Kind::conv, stride, weights({to, from, window, window})});
  };
  const auto normalise = [&](int64_t channels) {
    const at::TensorOptions options = at::TensorOptions(at::kFloat).device(device);
    layers_.push_back({Kind::batch_norm,
                       1,
                       {at::ones({channels}, options), at::zeros({channels}, options),
                        at::zeros({channels}, options), at::ones({channels}, options)}});
    layers_.push_back({Kind::relu});
  };
  int64_t features = 1;
  if (depth == 0) {
    for (const int64_t extent : shape) features *= extent;
  } else {
    const int64_t c = shape[0], wide = depth == 2 ? 2 * c : c;
    features = depth == 2 ? 4 * c : c;
    conv(c, c, 1, 1);
    normalise(c);
    conv(c, wide, 3, depth);
    if (depth == 2) conv(wide, wide, 3, 2);
    normalise(wide);
    conv(wide, features, 3, 1);
    if (depth == 2) conv(features, features, 3, 1);
    normalise(features);
    layers_.push_back({Kind::pool});
  }
  layers_.push_back({Kind::linear, 1, weights({classes, features})});
}

at::Tensor Probe::logits(const at::Tensor& values, bool training) const {
  at::Tensor x = values;
  for (const Layer& layer : layers_) {
    const std::vector<at::Tensor>& t = layer.tensors;
    switch (layer.kind) {
      case Kind::conv: {
        const int64_t margin = t[0].size(2) / 2;
        x = at::convolution(x, t[0], t[1], {layer.stride, layer.stride}, {margin, margin}, {1, 1},
                            /*transposed=*/false, {0, 0}, /*groups=*/1);
        break;
      }
      case Kind::batch_norm:
        x = at::batch_norm(x, t[0], t[1], t[2], t[3], training, /*momentum=*/0.1, /*eps=*/1e-5,
                           /*cudnn_enabled=*/true);
        break;
      case Kind::relu:
        x = at::relu(x);
        break;
      case Kind::pool:
        x = x.mean({2, 3});
        break;
      case Kind::linear:
        x = at::linear(x.flatten(1), t[0], t[1]);
        break;
    }
  }
  return x;
}

std::vector<at::Tensor> Probe::trained() const {
  std::vector<at::Tensor> tensors;
  for (const Layer& layer : layers_) {
    for (size_t k = 0; k < std::min<size_t>(2, layer.tensors.size()); ++k)
      tensors.push_back(layer.tensors[k]);
  }
  return tensors;
}

void Probe::require_grad(bool on) const {
  for (at::Tensor& tensor : trained()) tensor.requires_grad_(on);
}

std::vector<at::Tensor> Probe::state() const {
  std::vector<at::Tensor> copies;
  for (const Layer& layer : layers_) {
    for (const at::Tensor& tensor : layer.tensors) copies.push_back(tensor.detach().clone());
  }
  return copies;
}

void Probe::restore(const std::vector<at::Tensor>& state) const {
  const at::NoGradGuard constant;
  size_t next = 0;
  for (const Layer& layer : layers_) {
    for (const at::Tensor& tensor : layer.tensors) tensor.copy_(state.at(next++));
  }
}

void Probe::save(CheckpointState& state, const std::string& prefix) const {
  const std::vector<at::Tensor> tensors = this->state();
  for (size_t k = 0; k < tensors.size(); ++k) state[prefix + "." + std::to_string(k)] = tensors[k].cpu();
}

void Probe::load(const CheckpointState& state, const std::string& prefix) const {
  std::vector<at::Tensor> tensors;
  for (size_t k = 0; k < this->state().size(); ++k)
    tensors.push_back(state.at(prefix + "." + std::to_string(k)));
  restore(tensors);
}

double train_probe(const Probe& probe, const at::Tensor& values, const at::Tensor& labels,
                   const ProbeTraining& settings) {
  const at::AutoGradMode record(true);
  const int64_t count = values.size(0);
  probe.require_grad(true);
  torch::optim::Adam adam(probe.trained(), torch::optim::AdamOptions(settings.learning_rate));
  int64_t best_right = -1;
  std::vector<at::Tensor> best;
  for (int64_t epoch = 0; epoch < settings.epochs; ++epoch) {
    RandomStream stream(derive_seed(settings.seed, "epoch/" + std::to_string(epoch)));
    at::Tensor hits = at::zeros({}, labels.options());  // read once an epoch: reading waits for the device
    for (const at::Tensor& part : at::tensor(stream.permutation(count), at::kLong).split(settings.batch)) {
      settings.stop.check();
      if (part.numel() == 1 && count > 1) continue;  // batch norm has no statistics of one vector
      const at::Tensor numbers = part.to(values.device());
      const at::Tensor y = labels.index_select(0, numbers);
      const at::Tensor z = probe.logits(values.index_select(0, numbers), /*training=*/count > 1);
      adam.zero_grad(/*set_to_none=*/true);
      at::cross_entropy_loss(z, y).backward();
      adam.step();
      hits.add_((z.argmax(1) == y).sum());
    }
    const auto right = hits.item<int64_t>();
    if (right <= best_right) continue;
    best_right = right;
    best = probe.state();
    if (best_right == count) break;  // no later epoch can be better
  }
  adam.zero_grad(/*set_to_none=*/true);
  probe.require_grad(false);
  if (!best.empty()) probe.restore(best);
  return static_cast<double>(std::max<int64_t>(best_right, 0)) / static_cast<double>(count);
}

at::Tensor mean_probabilities(const Probe& probe, const at::Tensor& values) {
  return probe.logits(values, /*training=*/false).softmax(1).mean(0);
}

double anomaly_score(const at::Tensor& clean, const at::Tensor& faulty) {
  return -(faulty * (clean + 1e-7).log()).sum().item<double>();
}

}  // namespace harness::routing
