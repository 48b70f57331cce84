#include "harness/model/fast/input_gradient.hpp"

#include <ATen/ATen.h>

#include "harness/model/autograd.hpp"
#include "harness/model/backward.hpp"
#include "harness/model/execute.hpp"
#include "harness/model/fast/gradient_plan.hpp"
#include "harness/model/fast/inference.hpp"
#include "harness/model/graph.hpp"

namespace harness {
namespace {

// What the forward pass leaves of a step for the reverse sweep.
struct Value : ForwardValue {
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
  at::Tensor& input(const GradientStep& step) {
    return values_[static_cast<size_t>(step.node.inputs[0])].value;
  }
  std::vector<at::Tensor> inputs_of(const GradientStep& step) const {
    std::vector<at::Tensor> inputs;
    for (const NodeId id : step.node.inputs) inputs.push_back(values_[static_cast<size_t>(id)].value);
    return inputs;
  }
  void pass_on(const GradientStep& step, size_t k, at::Tensor part, bool owned) {
    gradients_[static_cast<size_t>(step.node.inputs[k])].add(std::move(part), owned);
  }

  // The order in memory that a convolution of images takes and gives.
  static at::Tensor ordered(const at::Tensor& x) {
    if (x.dim() != 4) return x;
    return x.contiguous(x.is_cpu() ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
  }

  void forward(const GradientStep& step, Value& out) {
    if (step.conv_pool) {
      auto pooled = step.conv_pool->forward(input(step));
      out.value = std::move(pooled.value);
      out.positions = std::move(pooled.positions);
      return;
    }
    // Kept in the order it is convolved in, for the reverse sweep needs it so, too.
    if (step.rule == BackwardRule::conv) input(step) = ordered(input(step));
    const std::vector<at::Tensor> inputs = inputs_of(step);
    if (step.in_place) {
      out.value = step.rule == BackwardRule::relu ? input(step).relu_() : input(step).add_(inputs[1]);
    } else if (step.rule == BackwardRule::autograd) {
      at::AutoGradMode record(true);
      for (const at::Tensor& value : inputs) out.sources.push_back(value.detach().requires_grad_());
      out.recorded = execute(step.node, out.sources, step.parameters);
      out.value = out.recorded.detach();
    } else {
      static_cast<ForwardValue&>(out) = forward_value({step.rule, step.node, inputs, step.parameters});
    }
  }

  void backward(const GradientStep& step, const Value& out, Gradient& gradient) {
    const at::Tensor& g = gradient.sum;
    if (step.conv_pool) return pass_on(step, 0, step.conv_pool->backward(g, out.positions), true);
    if (step.rule == BackwardRule::autograd) return backward_by_autograd(step, out, g);
    if (step.rule == BackwardRule::relu && gradient.owned && g.strides() == out.value.strides()) {
      at::threshold_backward_out(gradient.sum, gradient.sum, out.value, 0);
      return pass_on(step, 0, std::move(gradient.sum), true);
    }
    const at::Tensor from = step.rule == BackwardRule::conv ? ordered(g) : g;
    const std::vector<at::Tensor> inputs = inputs_of(step);
    // A reshaped gradient is a view of one that nothing else needs any more.
    const bool owned = !shares_gradient(step.rule) || (step.rule == BackwardRule::reshape && gradient.owned);
    for (size_t k = 0; k < inputs.size(); ++k) {
      pass_on(step, k, input_gradient({step.rule, step.node, inputs, step.parameters}, out, from, k), owned);
    }
  }

  void backward_by_autograd(const GradientStep& step, const Value& out, const at::Tensor& g) {
    const auto parts = grad({out.recorded}, out.sources, {g}, {.allow_unused = true});
    for (size_t k = 0; k < parts.size(); ++k) {
      if (parts[k].defined()) pass_on(step, k, parts[k], false);
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
  return grad({values}, {leaf}, {start})[0];
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
