#include "harness/model/inference.hpp"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <algorithm>

#include "harness/model/execute.hpp"
#include "harness/model/fold.hpp"

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
  bool in_place = false;       // ReLU of a value that only it reads
  std::vector<NodeId> expire;  // values nobody reads after this step
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
    const bool sum = conv.node.inputs.size() > 1;  // the sum's kernel knows ReLU alone
    if (!conv.fused || conv.readers != 1 || conv.epilogue.name != "none") continue;
    if (sum && steps[i].node.kind != NodeKind::relu) continue;
    conv.epilogue = *epilogue;
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

}  // namespace

struct InferenceForm::Implementation {
  const Network& network;
  Steps steps;  // empty: not fused
  std::optional<c10::OperatorHandle> conv, conv_sum, pack;

  bool plan(int64_t batch) {
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
    bool any = false;
    for (InferenceStep& step : steps) {
      if (!step.fused) continue;
      pack_weight(step, batch);
      any = true;
    }
    return any;
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

  at::Tensor output(const at::Tensor& x) const {
    std::vector<at::Tensor> values(steps.size()), inputs;
    values[0] = x.contiguous(at::MemoryFormat::ChannelsLast);
    for (size_t i = 1; i < steps.size(); ++i) {
      inputs.clear();
      for (const NodeId input : steps[i].node.inputs) inputs.push_back(values[static_cast<size_t>(input)]);
      for (const NodeId gone : steps[i].expire) values[static_cast<size_t>(gone)].reset();
      values[i] = run(steps[i], inputs);
    }
    return values.back();
  }
};

InferenceForm::InferenceForm(const Network& network, int64_t batch)
    : self_(new Implementation{.network = network, .steps = {}, .conv = {}, .conv_sum = {}, .pack = {}}) {
  const at::NoGradGuard no_grad;
  const bool wanted = network.importable() && network.device().is_cpu() && network.input_shape().size() == 3;
  if (wanted && !self_->plan(batch)) self_->steps.clear();
}
InferenceForm::InferenceForm(InferenceForm&&) noexcept = default;
InferenceForm::~InferenceForm() = default;

bool InferenceForm::fused() const {
  return !self_->steps.empty();
}

at::Tensor InferenceForm::output(const at::Tensor& x) const {
  if (!fused()) return self_->network.output(x);
  const c10::InferenceMode inference;
  return self_->output(x.to(at::kFloat));
}

int64_t preferred_batch(const Network& network) {
  constexpr int64_t kMostImages = 250, kBytes = int64_t{64} << 20;
  int64_t largest = 1;
  for (const int64_t size : network.input_shape()) largest *= size;
  if (network.importable()) {
    for (const Node& node : network.nodes()) {
      int64_t values = 1;
      for (const int64_t size : node.shape) values *= size;
      largest = std::max(largest, values);
    }
  } else {
    largest *= 16;  // as much as 64 channels at a quarter of the input's size
  }
  const int64_t bytes = largest * int64_t{sizeof(float)};
  return std::clamp<int64_t>(kBytes / bytes, 1, kMostImages);
}

}  // namespace harness
