#include "harness/model/fast/inference.hpp"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "harness/model/execute.hpp"
#include "harness/model/fast/fold.hpp"
#include "harness/model/fast/reach.hpp"
#include "harness/model/graph.hpp"

namespace harness {
namespace {

constexpr const char* kConv = "mkldnn::_convolution_pointwise";
constexpr const char* kPack = "mkldnn::_reorder_convolution_weight";

// The kernels are internal to ATen: reached by name, and boxed, so that a change of their C++ signature from
// one LibTorch to the next does not matter.
std::optional<c10::OperatorHandle> find_kernel(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchema({name, overload});
}

at::Tensor call(const c10::OperatorHandle& kernel, torch::jit::Stack arguments) {
  kernel.callBoxed(arguments);
  return arguments.at(0).toTensor();
}

// What oneDNN calls an activation; empty where it has none that equals ours.
struct Epilogue {
  std::string name = "none";
  std::vector<double> scalars;
};

std::optional<Epilogue> epilogue_of(const Node& node) {
  const auto* a = std::get_if<ActivationAttributes>(&node.attributes);
  switch (node.kind) {
    case NodeKind::relu:
      return Epilogue{"relu", {}};
    case NodeKind::relu6:
      return Epilogue{"hardtanh", {0, 6}};
    case NodeKind::hardtanh:
      return Epilogue{"hardtanh", {a->a, a->b}};
    case NodeKind::leaky_relu:
      return Epilogue{"leaky_relu", {a->a}};
    case NodeKind::silu:
      return Epilogue{"swish", {}};
    case NodeKind::hardswish:
      return Epilogue{"hardswish", {}};
    default:
      return std::nullopt;
  }
}

struct InferenceStep : PlanStep {
  bool fused = false;          // one kernel: convolution, sum with input 1 where there is one, epilogue
  at::Tensor packed;           // its weight
  Epilogue epilogue;           // of a fused step
  PlanStep activation;         // that it stands for
  bool in_place = false;       // ReLU of a value that only it reads
  std::vector<NodeId> expire;  // values nobody reads after this step
  Gain gain = {std::numeric_limits<double>::infinity(), 0};
  // One node as the network has it: its value can be looked at, which for a folded or fused step says nothing
  // of the nodes inside.
  bool plain() const { return !before_norm && !scale && epilogue.name == "none" && !sum(); }
  bool sum() const { return fused && node.inputs.size() > 1; }
};

using Steps = std::vector<InferenceStep>;

const InferenceStep& input_of(const Steps& steps, const InferenceStep& step, size_t k = 0) {
  return steps[static_cast<size_t>(step.node.inputs[k])];
}

bool can_fuse(const InferenceStep& step) {
  return step.node.kind == NodeKind::conv && step.parameters[0].dim() == 4 &&
         step.parameters[0].scalar_type() == at::kFloat;
}

// conv, activation -> conv
void join_activations(Steps& steps) {
  for (size_t i = 1; i < steps.size(); ++i) {
    const auto epilogue = epilogue_of(steps[i].node);
    if (!epilogue) continue;
    const NodeId before = steps[i].node.inputs[0];
    InferenceStep& conv = steps[static_cast<size_t>(before)];
    if (!conv.fused || conv.readers != 1 || conv.epilogue.name != "none") continue;
    if (conv.sum() && steps[i].node.kind != NodeKind::relu) continue;  // the sum's kernel knows ReLU alone
    conv.epilogue = *epilogue;
    conv.activation.node = steps[i].node;
    conv.readers = steps[i].readers;
    remove_step(steps, static_cast<NodeId>(i), before);
    --i;
  }
}

// conv, add -> conv with a second input, at the place of the add
void join_sums(Steps& steps) {
  for (size_t i = 1; i < steps.size(); ++i) {
    if (!is_plain_sum(steps, steps[i].node) || steps[i].node.inputs[0] == steps[i].node.inputs[1]) continue;
    // Of two convolutions the later one takes the sum: the other's value is there by then.
    size_t k = steps[i].node.inputs[1] > steps[i].node.inputs[0] ? 1 : 0;
    const auto fits = [&](size_t side) {
      const InferenceStep& conv = input_of(steps, steps[i], side);
      return conv.fused && conv.readers == 1 && conv.epilogue.name == "none" && conv.node.inputs.size() == 1;
    };
    if (!fits(k)) k = 1 - k;
    if (!fits(k)) continue;
    const NodeId before = steps[i].node.inputs[k], other = steps[i].node.inputs[1 - k];
    InferenceStep joined = steps[static_cast<size_t>(before)];
    joined.node.inputs.push_back(other);
    joined.readers = steps[i].readers;
    steps[i] = std::move(joined);
    remove_step(steps, before, -1);  // nobody but the sum, which is replaced, read it
    --i;
  }
}

void mark_in_place(Steps& steps) {
  for (InferenceStep& step : steps) {
    if (step.node.kind != NodeKind::relu) continue;
    const InferenceStep& source = input_of(steps, step);
    const bool fresh = source.fused || source.scale || source.node.kind == NodeKind::linear ||
                       source.node.kind == NodeKind::max_pool || is_plain_sum(steps, source.node);
    step.in_place = fresh && source.readers == 1;
  }
}

void mark_expiry(Steps& steps) {
  std::vector<char> read(steps.size(), 0);
  for (size_t i = steps.size(); i-- > 1;) {
    for (const NodeId input : steps[i].node.inputs) {
      if (!read[static_cast<size_t>(input)]) steps[i].expire.push_back(input);
      read[static_cast<size_t>(input)] = 1;
    }
  }
}

constexpr double kEarlyMagnitude = 1e16;  // half of the way to kSafeMagnitude

// Keeps an upper bound of every value's magnitude while a batch goes through the steps.
class Watch {
 public:
  // `place` null, or no longer empty: nothing is watched.
  Watch(const Steps& steps, std::string* place) : steps_(steps), place_(place) {
    if (watching()) bounds_.resize(steps.size());
  }

  void input(const at::Tensor& x) {
    if (watching()) look_at(0, x);
  }

  // Before a step; false where it is folded or fused and might overflow.
  bool admits(size_t i, const std::vector<at::Tensor>& inputs) {
    look_ = false;
    if (!watching()) return true;
    const InferenceStep& step = steps_[i];
    if (step.node.kind == NodeKind::concat) tighten_parts(step, inputs);
    double reach = reach_before(step, bounds_of(step));
    if (!(reach <= kSafeMagnitude) && has_rule(step)) {
      for (size_t k = 0; k < inputs.size(); ++k) tighten(step.node.inputs[k], inputs[k]);
      reach = reach_before(step, bounds_of(step));
    }
    bounds_[i] = {step.epilogue.name == "none" ? reach : reach_of(step.activation, {}, {reach}), false};
    if (reach <= kSafeMagnitude) return true;
    look_ = true;
    return step.plain();
  }

  void result(size_t i, const at::Tensor& value) {
    if (!look_ || !watching()) return;
    const auto* pad = std::get_if<PadAttributes>(&steps_[i].node.attributes);
    // Padding with minus infinity before a pooling is meant so.
    if (pad != nullptr && !std::isfinite(pad->value)) return;
    look_at(i, value);
  }

 private:
  struct Bound {
    double magnitude = 0;
    bool exact = false;
  };

  bool watching() const { return place_ != nullptr && place_->empty(); }

  void look_at(size_t i, const at::Tensor& value) {
    bounds_[i] = {largest_magnitude(value), true};
    if (!std::isfinite(bounds_[i].magnitude)) *place_ = steps_[i].node.name;
  }

  // What a concat joins is read by one concat after the other in dense blocks: each part is looked at once,
  // early, rather than their ever longer join again and again.
  void tighten_parts(const InferenceStep& step, const std::vector<at::Tensor>& inputs) {
    for (size_t k = 0; k < inputs.size(); ++k) {
      const NodeId input = step.node.inputs[k];
      if (bounds_[static_cast<size_t>(input)].magnitude > kEarlyMagnitude) tighten(input, inputs[k]);
    }
  }

  void tighten(NodeId input, const at::Tensor& value) {
    Bound& bound = bounds_[static_cast<size_t>(input)];
    // Any value that is not finite by its bounds was looked at when it was made.
    if (!bound.exact && std::isfinite(bound.magnitude)) bound = {largest_magnitude(value), true};
  }

  std::vector<double> bounds_of(const InferenceStep& step) const {
    std::vector<double> bounds;
    for (const NodeId input : step.node.inputs) {
      bounds.push_back(bounds_[static_cast<size_t>(input)].magnitude);
    }
    return bounds;
  }

  static bool has_rule(const InferenceStep& step) {
    const std::vector<double> zeros(step.node.inputs.size(), 0);
    return std::isfinite(reach_of(step, step.gain, zeros));
  }

  // Of the largest value inside a step, before its activation.
  static double reach_before(const InferenceStep& step, const std::vector<double>& inputs) {
    double reach = reach_of(step, step.gain, inputs);
    if (step.sum()) reach += inputs[1];
    return step.before_norm ? std::max(reach, (*step.before_norm)(inputs[0])) : reach;
  }

  const Steps& steps_;
  std::string* place_;
  std::vector<Bound> bounds_;
  bool look_ = false;
};

}  // namespace

struct InferenceForm::Implementation {
  const Network& network;
  std::optional<Network> black_box = {};
  Steps steps = {};  // of importable networks
  Steps plain = {};  // what a batch falls back to; empty where `steps` are plain
  at::ScalarType type = at::kFloat;
  std::optional<c10::OperatorHandle> conv = {}, conv_sum = {}, pack = {};

  void plan(int64_t batch) {
    if (!network.importable()) {
      black_box = black_box_for_pass(network);
      return;
    }
    type = graph::number_type(network);
    if (network.device().is_cpu() && network.input_shape().size() == 3 && plan_fused(batch)) {
      plain = plain_form();
    } else {
      steps = plain_form();
      set_gains();
    }
  }

  bool plan_fused(int64_t batch) {
    conv = find_kernel(kConv, "");
    conv_sum = find_kernel(kConv, "binary");
    pack = find_kernel(kPack, "");
    if (!conv || !conv_sum || !pack || !at::globalContext().userEnabledMkldnn() || !at::hasMKLDNN()) {
      return false;
    }
    for (PlanStep& step : folded_steps(network, network.output_node())) {
      InferenceStep& next = steps.emplace_back();
      static_cast<PlanStep&>(next) = std::move(step);
      next.fused = can_fuse(next);
    }
    join_activations(steps);
    join_sums(steps);
    join_activations(steps);  // those behind sums
    mark_in_place(steps);
    mark_expiry(steps);
    set_gains();
    bool any = false;
    for (InferenceStep& step : steps) {
      if (!step.fused) continue;
      pack_weight(step, batch);
      any = true;
    }
    if (!any) steps.clear();
    return any;
  }

  Steps plain_form() const {
    Steps result;
    for (PlanStep& step : plain_steps(network, network.output_node())) {
      static_cast<PlanStep&>(result.emplace_back()) = std::move(step);
    }
    mark_expiry(result);
    return result;
  }

  void set_gains() {
    for (InferenceStep& step : steps) step.gain = layer_gain(step);
  }

  void pack_weight(InferenceStep& step, int64_t batch) const {
    const auto& a = std::get<ConvAttributes>(step.node.attributes);
    std::vector<int64_t> input = {batch};
    const auto& shape = input_of(steps, step).node.shape;
    input.insert(input.end(), shape.begin(), shape.end());
    step.packed = call(*pack, {step.parameters[0].contiguous(at::MemoryFormat::ChannelsLast), a.padding,
                               a.stride, a.dilation, a.groups, input});
  }

  at::Tensor run_fused(const InferenceStep& step, const at::Tensor& x, const at::Tensor& other) const {
    const auto& a = std::get<ConvAttributes>(step.node.attributes);
    const c10::IValue bias = step.parameters[1].defined() ? c10::IValue(step.parameters[1]) : c10::IValue();
    c10::List<std::optional<at::Scalar>> scalars;
    for (const double scalar : step.epilogue.scalars) scalars.push_back(at::Scalar(scalar));
    if (!other.defined()) {
      return call(*conv, {x, step.packed, bias, a.padding, a.stride, a.dilation, a.groups, step.epilogue.name,
                          scalars, c10::IValue()});
    }
    const c10::IValue unary = step.epilogue.name == "none" ? c10::IValue() : c10::IValue(step.epilogue.name);
    return call(*conv_sum,
                {x, other.contiguous(x.suggest_memory_format()), step.packed, bias, a.padding, a.stride,
                 a.dilation, a.groups, "add", c10::IValue(), unary, scalars, c10::IValue()});
  }

  at::Tensor run(const InferenceStep& step, const std::vector<at::Tensor>& inputs) const {
    if (step.fused) return run_fused(step, inputs[0], inputs.size() > 1 ? inputs[1] : at::Tensor());
    if (step.scale) return at::addcmul(step.parameters[1], inputs[0], step.parameters[0]);
    if (step.in_place) {
      at::Tensor value = inputs[0];
      return value.relu_();
    }
    return execute(step.node, inputs, step.parameters);
  }

  // Undefined where a folded or fused step might overflow.
  at::Tensor run_all(const Steps& all, const at::Tensor& x, std::string* not_finite) const {
    Watch watch(all, not_finite);
    std::vector<at::Tensor> values(all.size()), inputs;
    values[0] = x;
    watch.input(x);
    for (size_t i = 1; i < all.size(); ++i) {
      inputs.clear();
      for (const NodeId input : all[i].node.inputs) inputs.push_back(values[static_cast<size_t>(input)]);
      for (const NodeId gone : all[i].expire) values[static_cast<size_t>(gone)].reset();
      if (!watch.admits(i, inputs)) return {};
      values[i] = run(all[i], inputs);
      watch.result(i, values[i]);
    }
    return values.back();
  }

  at::Tensor run_black_box(const at::Tensor& x, std::string* not_finite) const {
    const at::Tensor output = black_box->output(x);
    if (not_finite != nullptr && not_finite->empty() && !output.isfinite().all().item<bool>()) {
      *not_finite = "output";
    }
    return output;
  }

  at::Tensor output(const at::Tensor& x, std::string* not_finite) const {
    if (black_box) return run_black_box(x, not_finite);
    if (plain.empty()) {
      const at::NoGradGuard no_grad;
      return run_all(steps, x.to(type), not_finite);
    }
    const c10::InferenceMode inference;
    const at::Tensor input = x.to(type);
    const at::Tensor fused = run_all(steps, input.contiguous(at::MemoryFormat::ChannelsLast), not_finite);
    return fused.defined() ? fused : run_all(plain, input, not_finite);
  }
};

InferenceForm::InferenceForm(const Network& network, int64_t batch)
    : self_(new Implementation{.network = network}) {
  const at::NoGradGuard no_grad;
  self_->plan(batch);
}
InferenceForm::InferenceForm(InferenceForm&&) noexcept = default;
InferenceForm::~InferenceForm() = default;

bool InferenceForm::fused() const {
  return !self_->plain.empty();
}

at::Tensor InferenceForm::output(const at::Tensor& x, std::string* not_finite) const {
  return self_->output(x, not_finite);
}

Network black_box_for_pass(const Network& network) {
  constexpr uint64_t kSeed = 42;
  at::manual_seed(kSeed);
  return network.fork();
}

int64_t preferred_batch(const Network& network) {
  constexpr int64_t kMaxImages = 250, kBytes = int64_t{64} << 20;
  int64_t largest = graph::value_count(network.input_shape());
  if (network.importable()) {
    largest = std::max(largest, graph::max_value_count(network.nodes()));
  } else {
    largest *= 16;  // as much as 64 channels at a quarter of the input's size
  }
  const int64_t bytes = largest * int64_t{sizeof(float)};
  return std::clamp<int64_t>(kBytes / bytes, 1, kMaxImages);
}

}  // namespace harness
