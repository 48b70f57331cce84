#include "harness/model/input_gradient.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "harness/model/execute.hpp"
#include "harness/model/gradient_plan.hpp"
#include "harness/model/graph.hpp"
#include "harness/model/inference.hpp"

namespace harness {
namespace {

// What the forward pass leaves of a step for the reverse sweep.
struct Value {
  at::Tensor value;
  at::Tensor positions;             // of poolings
  std::vector<at::Tensor> sources;  // autograd: its inputs as leaves,
  at::Tensor recorded;              //   and its value with the history that ends in them
};

// d loss / d value while it is being summed up. `owned`: no other gradient shares its memory.
struct Gradient {
  at::Tensor sum;
  bool owned = false;

  void add(at::Tensor part, bool part_owned) {
    if (!sum.defined()) {
      sum = std::move(part);
      owned = part_owned;
    } else if (owned) {
      sum.add_(part);
    } else if (part_owned) {
      part.add_(sum);
      sum = std::move(part);
      owned = true;
    } else {
      sum = at::add(sum, part);
      owned = true;
    }
  }
};

class Pass {
 public:
  Pass(const std::vector<GradientStep>& steps, const at::Tensor& x) : steps_(steps), values_(steps.size()) {
    values_[0].value = x;
    for (size_t i = 1; i < steps.size(); ++i) forward(steps[i], values_[i]);
  }

  const at::Tensor& result() const { return values_.back().value; }

  at::Tensor backward(at::Tensor seed) {
    gradients_.resize(steps_.size());
    gradients_.back().add(std::move(seed), true);
    for (size_t i = steps_.size(); i-- > 1;) {
      if (gradients_[i].sum.defined()) backward(steps_[i], values_[i], gradients_[i]);
      gradients_[i].sum.reset();
      values_[i] = {};
    }
    return gradients_[0].sum.defined() ? gradients_[0].sum : at::zeros_like(values_[0].value);
  }

 private:
  const at::Tensor& input(const GradientStep& step, size_t k = 0) const {
    return values_[static_cast<size_t>(step.node.inputs[k])].value;
  }
  void pass_on(const GradientStep& step, size_t k, at::Tensor part, bool owned) {
    gradients_[static_cast<size_t>(step.node.inputs[k])].add(std::move(part), owned);
  }

  static at::MemoryFormat order(const at::Tensor& x) {
    return x.is_cpu() ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  }

  void forward(const GradientStep& step, Value& out) {
    const Node& node = step.node;
    switch (step.sweep) {
      case Sweep::conv: {
        const auto& a = std::get<ConvAttributes>(node.attributes);
        // Kept in the order it is convolved in, for the reverse sweep asks for it again.
        at::Tensor& x = values_[static_cast<size_t>(node.inputs[0])].value;
        x = x.contiguous(order(x));
        out.value = at::convolution(x, step.parameters[0], step.parameters[1], a.stride, a.padding,
                                    a.dilation, /*transposed=*/false, {0, 0}, a.groups);
        return;
      }
      case Sweep::conv_pool: {
        auto pooled = step.conv_pool->forward(input(step));
        out.value = std::move(pooled.value);
        out.positions = std::move(pooled.positions);
        return;
      }
      case Sweep::linear:
        out.value = at::linear(input(step), step.parameters[0], step.parameters[1]);
        return;
      case Sweep::scale:
        out.value = at::addcmul(step.parameters[1], input(step), step.parameters[0]);
        return;
      case Sweep::relu:
        out.value = step.in_place ? input(step).relu_() : at::relu(input(step));
        return;
      case Sweep::max_pool: {
        const auto& a = std::get<PoolAttributes>(node.attributes);
        std::tie(out.value, out.positions) =
            at::max_pool2d_with_indices(input(step), a.kernel, a.stride, a.padding, a.dilation, a.ceil_mode);
        return;
      }
      case Sweep::add:
        out.value = step.in_place ? input(step).add_(input(step, 1)) : at::add(input(step), input(step, 1));
        return;
      case Sweep::input:
      case Sweep::concat:
      case Sweep::reshape:
      case Sweep::softmax: {
        std::vector<at::Tensor> inputs;
        for (size_t k = 0; k < node.inputs.size(); ++k) inputs.push_back(input(step, k));
        out.value = execute(node, inputs, step.parameters);
        return;
      }
      case Sweep::autograd: {
        at::AutoGradMode record(true);
        for (size_t k = 0; k < node.inputs.size(); ++k) {
          out.sources.push_back(input(step, k).detach().requires_grad_());
        }
        out.recorded = execute(node, out.sources, step.parameters);
        out.value = out.recorded.detach();
        return;
      }
    }
  }

  void backward(const GradientStep& step, const Value& out, Gradient& gradient) {
    const Node& node = step.node;
    const at::Tensor& g = gradient.sum;
    switch (step.sweep) {
      case Sweep::input:
        return;
      case Sweep::conv: {
        const auto& a = std::get<ConvAttributes>(node.attributes);
        const at::Tensor ordered = g.contiguous(order(g));
        if (step.flipped.defined()) {
          pass_on(step, 0,
                  at::convolution(ordered, step.flipped, {}, {1, 1}, step.flipped_padding, {1, 1},
                                  /*transposed=*/false, {0, 0}, /*groups=*/1),
                  true);
          return;
        }
        const at::Tensor& x = input(step);
        pass_on(step, 0,
                std::get<0>(at::convolution_backward(
                    ordered, x, step.parameters[0], at::OptionalIntArrayRef(), a.stride, a.padding,
                    a.dilation, /*transposed=*/false, {0, 0}, a.groups, {true, false, false})),
                true);
        return;
      }
      case Sweep::conv_pool:
        pass_on(step, 0, step.conv_pool->backward(g, out.positions), true);
        return;
      case Sweep::linear:
        pass_on(step, 0, at::matmul(g, step.parameters[0]), true);
        return;
      case Sweep::scale:
        pass_on(step, 0, at::mul(g, step.parameters[0]), true);
        return;
      case Sweep::relu:
        if (gradient.owned && g.strides() == out.value.strides()) {
          at::threshold_backward_out(gradient.sum, gradient.sum, out.value, 0);
          pass_on(step, 0, std::move(gradient.sum), true);
        } else {
          pass_on(step, 0, at::threshold_backward(g, out.value, 0), true);
        }
        return;
      case Sweep::max_pool: {
        const auto& a = std::get<PoolAttributes>(node.attributes);
        pass_on(step, 0,
                at::max_pool2d_with_indices_backward(g, input(step), a.kernel, a.stride, a.padding,
                                                     a.dilation, a.ceil_mode, out.positions),
                true);
        return;
      }
      case Sweep::add:
        pass_on(step, 0, g, false);
        pass_on(step, 1, g, false);
        return;
      case Sweep::concat: {
        const int64_t dim = std::get<DimsAttributes>(node.attributes).dims[0];
        int64_t begin = 0;
        for (size_t k = 0; k < node.inputs.size(); ++k) {
          const int64_t length = input(step, k).size(dim);
          pass_on(step, k, g.narrow(dim, begin, length), false);
          begin += length;
        }
        return;
      }
      case Sweep::reshape:
        pass_on(step, 0, g.reshape(input(step).sizes()), gradient.owned);
        return;
      case Sweep::softmax:
        pass_on(step, 0,
                at::_softmax_backward_data(g, out.value, std::get<DimsAttributes>(node.attributes).dims[0],
                                           out.value.scalar_type()),
                true);
        return;
      case Sweep::autograd: {
        const auto parts = torch::autograd::grad({out.recorded}, out.sources, {g}, /*retain_graph=*/false,
                                                 /*create_graph=*/false, /*allow_unused=*/true);
        for (size_t k = 0; k < parts.size(); ++k) {
          if (parts[k].defined()) pass_on(step, k, parts[k], false);
        }
        return;
      }
    }
  }

  const std::vector<GradientStep>& steps_;
  std::vector<Value> values_;
  std::vector<Gradient> gradients_;
};

at::Tensor black_box_gradient(const Network& network, const at::Tensor& x, const InputGradient::Seed& seed) {
  at::AutoGradMode record(true);
  const at::Tensor leaf = x.detach().clone().requires_grad_();
  const at::Tensor values = network.differentiable_output(leaf);
  at::Tensor start;
  {
    at::NoGradGuard constant;
    start = seed(values.detach());
  }
  return torch::autograd::grad({values}, {leaf}, {start})[0];
}

}  // namespace

struct InputGradient::Implementation {
  const Network& network;
  std::optional<Network> black_box = {};
  std::vector<GradientStep> steps = {};  // of importable networks
  at::ScalarType type = at::kFloat;
};

InputGradient::InputGradient(const Network& network, Of of) : self_(new Implementation{.network = network}) {
  at::NoGradGuard constant;
  if (!network.importable()) {
    self_->black_box = black_box_for_pass(network);
    return;
  }
  self_->steps = plan_gradient(network, of == Of::output ? network.output_node() : network.logits_node());
  self_->type = graph::number_type(network);
}
InputGradient::InputGradient(InputGradient&&) noexcept = default;
InputGradient::~InputGradient() = default;

bool InputGradient::concurrent() const {
  return !self_->black_box && self_->network.device().is_cpu();
}

at::Tensor InputGradient::operator()(const at::Tensor& x, const Seed& seed) const {
  if (self_->black_box) return black_box_gradient(*self_->black_box, x, seed).contiguous();
  at::NoGradGuard constant;
  Pass pass(self_->steps, x.to(self_->type));
  return pass.backward(seed(pass.result())).to(x.scalar_type()).contiguous();
}

}  // namespace harness
