#include "approaches/routing/neuron_routing.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "harness/model/autograd.hpp"
#include "harness/model/graph.hpp"
#include "harness/model/memory_class.hpp"

namespace harness::routing {
namespace {

// Numbers of the kernels or of the unfolded inputs of a chunk: what the CPU's caches hold.
constexpr int64_t kTogetherOnCpu = int64_t{1} << 19;

class Routing {
 public:
  Routing(const Network& network, const ProbedBlock& block, const Probe& probe,
          const RoutingSettings& settings)
      : network_(network),
        block_(block),
        probe_(probe),
        settings_(settings),
        layer_(network.nodes()[static_cast<size_t>(block.layer)]),
        rest_(segment_between(network, block.layer, block.output)),
        kernel_(network.parameters()[block.weight].value.detach().flatten(1)) {
    const ParameterId bias = graph::parameter_in(layer_, 1);
    if (bias >= 0) bias_ = network.parameters()[bias].value.detach().view({1, -1, 1});
    live_ = rest_.live;
    live_.push_back(layer_.inputs[0]);
    std::ranges::sort(live_);
    live_.erase(std::unique(live_.begin(), live_.end()), live_.end());
  }

  int64_t together() const {
    if (settings_.together > 0) return settings_.together;
    int64_t positions = 1;
    for (size_t k = 1; k < layer_.shape.size(); ++k) positions *= layer_.shape[k];
    const int64_t unfolded = kernel_.size(1) * positions;
    const int64_t values = values_together(network_.device(), kTogetherOnCpu);
    return std::max<int64_t>(1, values / std::max(kernel_.numel(), unfolded));
  }

  // bool (outputs, inputs of the kernel) summed over the inputs x.
  at::Tensor marks(const at::Tensor& x) {
    load(x);
    const at::Tensor columns_t = columns_.transpose(1, 2);
    const at::Tensor wanted =
        probe_
            .logits(
                behind(product(kernel_.unsqueeze(0).expand({x.size(0), kernel_.size(0), kernel_.size(1)}))),
                /*training=*/false)
            .argmax(1);
    at::Tensor routing = at::ones({x.size(0), kernel_.size(0), kernel_.size(1)}, kernel_.options());
    at::Tensor routed = at::empty_like(routing);
    for (int64_t step = 0; step < settings_.steps; ++step) {
      settings_.stop.check();
      at::mul_out(routed, routing, kernel_);
      const at::Tensor gradient = at::bmm(output_gradient(product(routed), wanted), columns_t);
      const at::Tensor signs = routing.sign();
      routing.sub_(gradient, settings_.rate).sub_(signs, settings_.shrink).clamp_(0, 1);
    }
    return (routing > routing.mean(std::vector<int64_t>{1, 2}, /*keepdim=*/true))
        .sum(0, /*keepdim=*/false, at::kInt);
  }

 private:
  void load(const at::Tensor& x) {
    const std::vector<at::Tensor> values = network_.activations(x, live_);
    known_.clear();
    for (size_t k = 0; k < live_.size(); ++k) known_[live_[k]] = values[k];
    const at::Tensor& input = known_.at(layer_.inputs[0]);
    if (layer_.kind == NodeKind::linear) {
      columns_ = input.unsqueeze(2);
    } else {
      const auto& a = std::get<ConvAttributes>(layer_.attributes);
      const at::IntArrayRef window = network_.parameters()[block_.weight].value.sizes().slice(2);
      columns_ = at::im2col(input, window, a.dilation, a.padding, a.stride);
    }
  }

  // The layer's output (n, outputs, positions) with a kernel of its own for each input.
  at::Tensor product(const at::Tensor& kernels) const {
    const at::Tensor y = at::bmm(kernels, columns_);
    return bias_.defined() ? y + bias_ : y;
  }

  at::Tensor behind(const at::Tensor& y) {
    std::vector<int64_t> shape = {y.size(0)};
    shape.insert(shape.end(), layer_.shape.begin(), layer_.shape.end());
    std::map<NodeId, at::Tensor> known = known_;
    known[block_.layer] = y.reshape(shape);
    return evaluate_part(network_, block_.output, std::move(known));
  }

  // d loss / d y: the loss is a sum over inputs, which do not touch each other.
  at::Tensor output_gradient(const at::Tensor& y, const at::Tensor& wanted) {
    const at::AutoGradMode record(true);
    const at::Tensor leaf = y.detach().requires_grad_();
    const at::Tensor z = probe_.logits(behind(leaf), /*training=*/false);
    const at::Tensor loss = at::cross_entropy_loss(z, wanted, {}, at::Reduction::Sum);
    return grad({loss}, {leaf})[0];
  }

  const Network& network_;
  const ProbedBlock& block_;
  const Probe& probe_;
  const RoutingSettings& settings_;
  const Node& layer_;
  Segment rest_;
  at::Tensor kernel_, bias_;  // (outputs, inputs of one output), (1, outputs, 1)
  std::vector<NodeId> live_;
  std::map<NodeId, at::Tensor> known_;
  at::Tensor columns_;  // (n, inputs of one output, positions)
};

}  // namespace

at::Tensor routing_counts(const Network& network, const ProbedBlock& block, const Probe& probe,
                          const at::Tensor& inputs, const RoutingSettings& settings) {
  const at::NoGradGuard constant;
  Routing routing(network, block, probe, settings);
  const at::Tensor& kernel = network.parameters()[block.weight].value;
  at::Tensor counts = at::zeros(kernel.sizes(), kernel.options().dtype(at::kInt));
  for (const at::Tensor& chunk : inputs.split(routing.together()))
    counts.add_(routing.marks(chunk).view(kernel.sizes()));
  return counts;
}

at::Tensor marked(const at::Tensor& counts, int64_t maximum) {
  const at::Tensor any = counts > 0;
  if (maximum >= counts.numel()) return any;
  const at::Tensor order = std::get<1>(counts.cpu().sort(/*stable=*/true, /*dim=*/0, /*descending=*/true));
  const at::Tensor first = order.slice(0, 0, maximum).to(counts.device());
  return any.logical_and(at::zeros_like(any).index_fill_(0, first, true));
}

}  // namespace harness::routing
