#include "approaches/routing/neuron_routing.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "harness/model/autograd.hpp"
#include "harness/model/fast/wide.hpp"
#include "harness/model/graph.hpp"
#include "harness/model/memory_class.hpp"

namespace harness::routing {
namespace {

// Numbers of the kernels or of the unfolded inputs of a chunk: what the CPU's caches hold.
constexpr int64_t kTogetherOnCpu = int64_t{1} << 19;
// Weights of a part that a step works on at a time, with as many factors and gradients.
constexpr int64_t kPart = int64_t{1} << 16;

// One step of factors r against a gradient, which is then replaced by the weights times their new factors.
HARNESS_WIDE void step_factors(float* __restrict factors, float* __restrict gradient,
                               const float* __restrict weights, int64_t count, float rate, float shrink) {
  for (int64_t k = 0; k < count; ++k) {
    float r = factors[k] - rate * gradient[k];
    r -= factors[k] > 0 ? shrink : 0.0f;  // the sign: a factor is never below zero
    r = r < 0 ? 0.0f : r;
    r = r > 1 ? 1.0f : r;
    factors[k] = r;
    gradient[k] = r * weights[k];
  }
}

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
        kernel_(network.parameters()[block.weight].value.detach().flatten(1).contiguous()) {
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
    const int64_t count = x.size(0), rows = kernel_.size(0), row = kernel_.size(1);
    at::Tensor y = with_bias(at::bmm(kernel_.unsqueeze(0).expand({count, rows, row}), columns_));
    const at::Tensor wanted = probe_.logits(behind(y), /*training=*/false).argmax(1);
    at::Tensor factors = at::ones({count, rows, row}, kernel_.options());
    for (int64_t step = 0; step < settings_.steps; ++step) {
      settings_.stop.check();
      const at::Tensor gradient = output_gradient(y, wanted);
      y = network_.device().is_cpu() ? stepped_in_parts(factors, gradient) : stepped(factors, gradient);
    }
    return (factors > factors.mean(std::vector<int64_t>{1, 2}, /*keepdim=*/true))
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

  // One step of the factors (n, outputs, inputs of one output) against d loss / d y; then the layer's output
  // (n, outputs, positions) with the kernel times them.
  at::Tensor stepped(at::Tensor& factors, const at::Tensor& gradient) const {
    at::Tensor slope = at::bmm(gradient, columns_.transpose(1, 2));
    const at::Tensor signs = factors.sign();
    factors.sub_(slope, settings_.rate).sub_(signs, settings_.shrink).clamp_(0, 1);
    return with_bias(at::bmm(at::mul_out(slope, factors, kernel_), columns_));
  }
  at::Tensor stepped_in_parts(at::Tensor& factors, const at::Tensor& gradient) const {
    const int64_t count = factors.size(0), rows = factors.size(1), row = factors.size(2);
    // Some inputs with the whole kernel, or some rows of one input.
    const int64_t images = std::clamp<int64_t>(kPart / (rows * row), 1, count);
    const int64_t span = images > 1 ? rows : std::clamp<int64_t>(kPart / row, 1, rows);
    const int64_t spans = (rows + span - 1) / span, parts = (count + images - 1) / images * spans;
    at::Tensor y = at::empty({count, rows, columns_.size(2)}, factors.options());
    const auto rate = static_cast<float>(settings_.rate), shrink = static_cast<float>(settings_.shrink);
    at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
      const at::NoGradGuard constant;
      for (int64_t part = begin; part < end; ++part) {
        const int64_t n = part / spans * images, r = part % spans * span;
        const int64_t some = std::min(images, count - n), few = std::min(span, rows - r);
        const at::Tensor read = columns_.narrow(0, n, some);
        const at::Tensor work = at::bmm(gradient.narrow(0, n, some).narrow(1, r, few), read.transpose(1, 2));
        const float* const weights = kernel_.const_data_ptr<float>() + r * row;
        for (int64_t k = 0; k < some; ++k) {
          step_factors(factors.data_ptr<float>() + ((n + k) * rows + r) * row,
                       work.data_ptr<float>() + k * few * row, weights, few * row, rate, shrink);
        }
        y.narrow(0, n, some).narrow(1, r, few).copy_(at::bmm(work, read));
      }
    });
    return with_bias(y);
  }
  at::Tensor with_bias(const at::Tensor& y) const { return bias_.defined() ? y + bias_ : y; }

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

RoutingCounts routing_counts(const Network& network, const ProbedBlock& block, const Probe& probe,
                             const at::Tensor& inputs, const RoutingSettings& settings) {
  const at::NoGradGuard constant;
  Routing routing(network, block, probe, settings);
  const at::Tensor& kernel = network.parameters()[block.weight].value;
  RoutingCounts counts{at::zeros(kernel.sizes(), kernel.options().dtype(at::kInt)), 0};
  for (const at::Tensor& chunk : inputs.split(routing.together())) {
    counts.marked.add_(routing.marks(chunk).view(kernel.sizes()));
    counts.inputs += chunk.size(0);
    if (settings.until_full && (counts.marked > 0).all().item<bool>()) break;
  }
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
