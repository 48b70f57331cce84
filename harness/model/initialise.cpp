#include <ATen/ATen.h>

#include "harness/core/random.hpp"
#include "harness/model/implementation.hpp"

namespace harness {
namespace {

at::Tensor uniform_like(const at::Tensor& model, double limit, RandomStream& stream) {
  at::Tensor values = at::empty(model.sizes(), at::kDouble);
  double* data = values.data_ptr<double>();
  for (int64_t i = 0; i < values.numel(); ++i) data[i] = stream.uniform(-limit, limit);
  return values.to(model.scalar_type());
}

}  // namespace

void Network::reinitialise(Initialiser initialiser, uint64_t seed) {
  self_->need_graph("reinitialise()");
  const auto set = [&](ParameterId id, const at::Tensor& value) {
    if (id >= 0) set_parameter(id, value);
  };
  for (const Node& node : self_->nodes) {
    if (node.kind == NodeKind::batch_norm) {
      for (size_t role = 0; role < 4; ++role) {
        const ParameterId id = node.parameters[role];
        const bool one = role == 0 || role == 3;  // weight and running variance
        if (id >= 0) set(id, at::full_like(self_->parameters[id].value.detach(), one ? 1 : 0));
      }
    } else if (node.kind == NodeKind::conv || node.kind == NodeKind::linear) {
      const Parameter& weight = self_->parameters[node.parameters[0]];
      RandomStream stream(derive_seed(seed, weight.name));
      const int64_t window = weight.value.numel() / (weight.value.size(0) * weight.value.size(1));
      const auto fan_in = static_cast<double>(weight.value.size(1) * window);
      const auto fan_out = static_cast<double>(weight.value.size(0) * window);
      const bool glorot = initialiser == Initialiser::glorot_uniform;
      // PyTorch's default is Kaiming uniform with a = sqrt(5), which comes to 1/sqrt(fan in).
      const double limit = glorot ? std::sqrt(6 / (fan_in + fan_out)) : 1 / std::sqrt(fan_in);
      set(node.parameters[0], uniform_like(weight.value, limit, stream));
      if (node.parameters[1] >= 0) {
        const at::Tensor& bias = self_->parameters[node.parameters[1]].value;
        set(node.parameters[1], glorot ? at::zeros_like(bias.detach()) : uniform_like(bias, limit, stream));
      }
    }
  }
}

}  // namespace harness
