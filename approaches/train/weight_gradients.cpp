#include "approaches/train/weight_gradients.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "harness/core/error.hpp"
#include "harness/model/conv_pool.hpp"
#include "harness/model/execute.hpp"
#include "harness/model/memory_class.hpp"

namespace harness {
namespace {

enum class Rule { conv, conv_pool, linear, batch_norm, relu, max_pool, add, reshape, autograd };

// A node that the logits depend on.
struct Step {
  NodeId node = 0;
  Rule rule = Rule::autograd;
  bool needed = false;  // a chosen weight lies at or before it
  NodeId conv = -1;     // conv_pool: the convolution; `node` is the pooling
  bool relu = false;    //   with a ReLU between them, which commutes with the pooling
};

// What the forward pass leaves of a node.
struct Value {
  at::Tensor value;
  at::Tensor positions;  // of poolings
  std::optional<ConvPool> conv_pool;
  std::vector<at::Tensor> sources;      // autograd: its inputs and then its chosen weights as leaves,
  std::vector<NodeId> source_inputs;    //   the nodes of the former
  std::vector<ParameterId> source_ids;  //   and the latter
  at::Tensor recorded;                  //   and its value with the history that ends in them
};

at::Tensor rows_of(const at::Tensor& values, const at::Tensor& rows) {
  return rows.defined() ? values.index_select(0, rows) : values;
}

}  // namespace

struct WeightGradients::Implementation {
  const Network& network;
  const FlatWeights& weights;
  std::vector<at::Tensor> sums = {};
  std::vector<Step> steps = {};
  std::vector<Value> values = {};
  std::vector<char> carries = {};  // by node: a chosen weight lies at or before it

  const Node& node_of(NodeId id) const { return network.nodes()[static_cast<size_t>(id)]; }
  at::Tensor parameter(const Node& node, size_t role) const {
    const ParameterId id = role < node.parameters.size() ? node.parameters[role] : -1;
    return id < 0 ? at::Tensor() : network.parameters()[id].value.detach();
  }
  bool chosen(const Node& node, size_t role) const {
    const ParameterId id = role < node.parameters.size() ? node.parameters[role] : -1;
    return id >= 0 && weights.begin_of(id) >= 0;
  }
  const at::Tensor& value(NodeId id) const { return values[static_cast<size_t>(id)].value; }

  void plan();
  Rule rule_of(const Node& node) const;
  bool join_conv_and_pool(Step& step, const std::vector<int>& readers) const;
  void forward(const Step& step, std::optional<uint64_t> dropout);
  void forward_by_autograd(const Step& step, std::optional<uint64_t> dropout);
  void add_to_sum(const Group& group, ParameterId id, const at::Tensor& gradient);
  void add_weights(const Step& step, const at::Tensor& gradient, const std::vector<Group>& groups);
  void pass_on(const Step& step, const at::Tensor& gradient, std::vector<at::Tensor>& gradients) const;
  void backward_by_autograd(const Step& step, const at::Tensor& gradient, const std::vector<Group>& groups,
                            std::vector<at::Tensor>& gradients);
};

Rule WeightGradients::Implementation::rule_of(const Node& node) const {
  const auto same_shapes = [&] {
    return node.inputs.size() == 2 && node_of(node.inputs[0]).shape == node.shape &&
           node_of(node.inputs[1]).shape == node.shape &&
           std::get<ArithmeticAttributes>(node.attributes).alpha == 1;
  };
  switch (node.kind) {
    case NodeKind::conv:
      return Rule::conv;
    case NodeKind::linear:
      return Rule::linear;
    case NodeKind::batch_norm:
      return Rule::batch_norm;
    case NodeKind::relu:
      return Rule::relu;
    case NodeKind::reshape:
      return Rule::reshape;
    case NodeKind::max_pool:
      return std::get<PoolAttributes>(node.attributes).kernel.size() == 2 ? Rule::max_pool : Rule::autograd;
    case NodeKind::add:
      return same_shapes() ? Rule::add : Rule::autograd;
    default:
      return Rule::autograd;
  }
}

// Whether the pooling `step` reads, perhaps through a ReLU, a convolution of the network's input for which
// there is the cheaper form.
bool WeightGradients::Implementation::join_conv_and_pool(Step& step, const std::vector<int>& readers) const {
  const Node& pool = node_of(step.node);
  if (step.rule != Rule::max_pool) return false;
  NodeId before = pool.inputs[0];
  const bool relu = node_of(before).kind == NodeKind::relu;
  if (relu && readers[static_cast<size_t>(before)] != 1) return false;
  if (relu) before = node_of(before).inputs[0];
  const Node& conv = node_of(before);
  if (conv.kind != NodeKind::conv || readers[static_cast<size_t>(before)] != 1) return false;
  const at::Tensor weight = parameter(conv, 0);
  if (conv.inputs[0] != 0 || !weight.is_cpu() || weight.scalar_type() != at::kFloat) return false;
  if (!ConvPool::fits(conv, weight, pool)) return false;
  step.rule = Rule::conv_pool;
  step.conv = before;
  step.relu = relu;
  return true;
}

void WeightGradients::Implementation::plan() {
  const std::vector<Node>& nodes = network.nodes();
  std::vector<int> readers(nodes.size(), 0);
  readers[static_cast<size_t>(network.logits_node())] = 1;
  for (auto id = static_cast<size_t>(network.logits_node()); id > 0; --id) {
    if (readers[id] == 0) continue;
    for (const NodeId input : nodes[id].inputs) ++readers[static_cast<size_t>(input)];
  }
  carries.assign(nodes.size(), 0);
  std::vector<NodeId> joined;
  for (size_t id = 1; id <= static_cast<size_t>(network.logits_node()); ++id) {
    if (readers[id] == 0) continue;
    Step step{.node = static_cast<NodeId>(id), .rule = rule_of(nodes[id])};
    for (size_t role = 0; role < nodes[id].parameters.size(); ++role) step.needed |= chosen(nodes[id], role);
    for (const NodeId input : nodes[id].inputs) step.needed |= carries[static_cast<size_t>(input)] != 0;
    carries[id] = step.needed;
    if (step.needed && join_conv_and_pool(step, readers)) {
      joined.push_back(step.conv);
      if (step.relu) joined.push_back(nodes[id].inputs[0]);
    }
    steps.push_back(step);
  }
  std::erase_if(steps, [&](const Step& step) {
    return std::find(joined.begin(), joined.end(), step.node) != joined.end();
  });
  values.resize(nodes.size());
}

void WeightGradients::Implementation::forward(const Step& step, std::optional<uint64_t> dropout) {
  const Node& node = node_of(step.node);
  Value& out = values[static_cast<size_t>(step.node)];
  if (step.needed && step.rule == Rule::conv_pool) {
    const Node& conv = node_of(step.conv);
    out.conv_pool.emplace(conv, parameter(conv, 0), parameter(conv, 1), node, node_of(0).shape);
    auto pooled = out.conv_pool->forward(value(0));
    out.value = step.relu ? pooled.value.relu_() : pooled.value;
    out.positions = std::move(pooled.positions);
    return;
  }
  if (step.needed && step.rule == Rule::max_pool) {
    const auto& a = std::get<PoolAttributes>(node.attributes);
    std::tie(out.value, out.positions) = at::max_pool2d_with_indices(
        value(node.inputs[0]), a.kernel, a.stride, a.padding, a.dilation, a.ceil_mode);
    return;
  }
  if (step.needed && step.rule == Rule::autograd) return forward_by_autograd(step, dropout);
  std::vector<at::Tensor> inputs, parameters;
  for (const NodeId input : node.inputs) inputs.push_back(value(input));
  for (size_t role = 0; role < node.parameters.size(); ++role) parameters.push_back(parameter(node, role));
  const bool drop = dropout && node.kind == NodeKind::dropout;
  out.value = drop ? execute(node, inputs, parameters, {true, *dropout}) : execute(node, inputs, parameters);
}

void WeightGradients::Implementation::forward_by_autograd(const Step& step, std::optional<uint64_t> dropout) {
  const at::AutoGradMode record(true);
  const Node& node = node_of(step.node);
  Value& out = values[static_cast<size_t>(step.node)];
  out.sources.clear();
  out.source_inputs.clear();
  out.source_ids.clear();
  std::vector<at::Tensor> inputs, parameters;
  for (const NodeId input : node.inputs) {
    inputs.push_back(value(input).detach());
    if (!carries[static_cast<size_t>(input)]) continue;
    out.sources.push_back(inputs.back().requires_grad_());
    out.source_inputs.push_back(input);
  }
  for (size_t role = 0; role < node.parameters.size(); ++role) {
    parameters.push_back(parameter(node, role));
    if (!chosen(node, role)) continue;
    out.sources.push_back(parameters.back().requires_grad_());
    out.source_ids.push_back(node.parameters[role]);
  }
  const bool drop = dropout && node.kind == NodeKind::dropout;
  out.recorded =
      drop ? execute(node, inputs, parameters, {true, *dropout}) : execute(node, inputs, parameters);
  out.value = out.recorded.detach();
}

void WeightGradients::Implementation::add_to_sum(const Group& group, ParameterId id,
                                                 const at::Tensor& gradient) {
  sums[group.sum].narrow(0, weights.begin_of(id), gradient.numel()).add_(gradient.reshape({-1}));
}

void WeightGradients::Implementation::add_weights(const Step& step, const at::Tensor& gradient,
                                                  const std::vector<Group>& groups) {
  const Node& node = node_of(step.rule == Rule::conv_pool ? step.conv : step.node);
  const bool weight = chosen(node, 0), bias = chosen(node, 1);
  if (!weight && !bias) return;
  for (const Group& group : groups) {
    if (group.inputs.defined() && group.inputs.numel() == 0) continue;
    const at::Tensor g = rows_of(gradient, group.inputs), x = rows_of(value(node.inputs[0]), group.inputs);
    at::Tensor of_weight, of_bias;
    if (step.rule == Rule::conv_pool) {
      const Value& kept = values[static_cast<size_t>(step.node)];
      if (weight) of_weight = kept.conv_pool->weight_gradient(x, g, rows_of(kept.positions, group.inputs));
      if (bias) of_bias = g.sum({0, 2, 3});
    } else if (step.rule == Rule::conv) {
      const auto& a = std::get<ConvAttributes>(node.attributes);
      const std::vector<int64_t> none(a.stride.size(), 0);
      std::tie(std::ignore, of_weight, of_bias) = at::convolution_backward(
          g, x, parameter(node, 0), at::IntArrayRef({g.size(1)}), a.stride, a.padding, a.dilation,
          /*transposed=*/false, none, a.groups, {false, weight, bias});
    } else if (step.rule == Rule::linear) {
      const at::Tensor flat = g.reshape({-1, g.size(-1)});
      if (weight) of_weight = at::mm(flat.t(), x.reshape({-1, x.size(-1)}));
      if (bias) of_bias = flat.sum(0);
    } else {
      // In evaluation mode the saved statistics are the running ones. On the CPU they are not looked at; CUDA
      // asserts that they are there.
      const double epsilon = std::get<BatchNormAttributes>(node.attributes).epsilon;
      const at::Tensor mean = parameter(node, 2), variance = parameter(node, 3);
      std::tie(std::ignore, of_weight, of_bias) = at::native_batch_norm_backward(
          g, x, parameter(node, 0), mean, variance, mean, at::rsqrt(variance + epsilon), /*train=*/false,
          epsilon, {false, weight, bias});
    }
    if (weight) add_to_sum(group, node.parameters[0], of_weight);
    if (bias) add_to_sum(group, node.parameters[1], of_bias);
  }
}

// Adds d loss / d input to `gradients` for the inputs that chosen weights lie at or before.
void WeightGradients::Implementation::pass_on(const Step& step, const at::Tensor& gradient,
                                              std::vector<at::Tensor>& gradients) const {
  const Node& node = node_of(step.node);
  const Value& kept = values[static_cast<size_t>(step.node)];
  const auto add = [&](size_t k, const at::Tensor& part) {
    at::Tensor& sum = gradients[static_cast<size_t>(node.inputs[k])];
    sum = sum.defined() ? sum + part : part;
  };
  const auto wanted = [&](size_t k) { return carries[static_cast<size_t>(node.inputs[k])] != 0; };
  if (step.rule == Rule::conv_pool || (!wanted(0) && step.rule != Rule::add)) return;
  const at::Tensor& x = value(node.inputs[0]);
  switch (step.rule) {
    case Rule::conv: {
      const auto& a = std::get<ConvAttributes>(node.attributes);
      const std::vector<int64_t> none(a.stride.size(), 0);
      add(0, std::get<0>(at::convolution_backward(gradient, x, parameter(node, 0), at::OptionalIntArrayRef(),
                                                  a.stride, a.padding, a.dilation, /*transposed=*/false, none,
                                                  a.groups, {true, false, false})));
      return;
    }
    case Rule::linear:
      return add(0, at::matmul(gradient, parameter(node, 0)));
    case Rule::batch_norm: {
      const double epsilon = std::get<BatchNormAttributes>(node.attributes).epsilon;
      at::Tensor factor = at::rsqrt(parameter(node, 3) + epsilon);
      if (parameter(node, 0).defined()) factor = factor * parameter(node, 0);
      std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
      shape[1] = -1;
      return add(0, gradient * factor.view(shape));
    }
    case Rule::relu:
      return add(0, at::threshold_backward(gradient, kept.value, 0));
    case Rule::max_pool: {
      const auto& a = std::get<PoolAttributes>(node.attributes);
      return add(0, at::max_pool2d_with_indices_backward(gradient, x, a.kernel, a.stride, a.padding,
                                                         a.dilation, a.ceil_mode, kept.positions));
    }
    case Rule::add:
      if (wanted(0)) add(0, gradient);
      if (wanted(1)) add(1, gradient);
      return;
    case Rule::reshape:
      return add(0, gradient.reshape(x.sizes()));
    default:
      return;
  }
}

void WeightGradients::Implementation::backward_by_autograd(const Step& step, const at::Tensor& gradient,
                                                           const std::vector<Group>& groups,
                                                           std::vector<at::Tensor>& gradients) {
  const Value& kept = values[static_cast<size_t>(step.node)];
  const auto run = [&](const at::Tensor& seed, const std::vector<at::Tensor>& sources) {
    return torch::autograd::grad({kept.recorded}, sources, {seed}, /*retain_graph=*/true,
                                 /*create_graph=*/false, /*allow_unused=*/true);
  };
  const auto weights_begin = kept.sources.begin() + static_cast<int64_t>(kept.source_inputs.size());
  const std::vector<at::Tensor> of_inputs(kept.sources.begin(), weights_begin),
      of_weights(weights_begin, kept.sources.end());
  if (!of_inputs.empty()) {
    const auto parts = run(gradient, of_inputs);
    for (size_t k = 0; k < parts.size(); ++k) {
      at::Tensor& sum = gradients[static_cast<size_t>(kept.source_inputs[k])];
      if (parts[k].defined()) sum = sum.defined() ? sum + parts[k] : parts[k];
    }
  }
  for (const Group& group : groups) {
    if (of_weights.empty()) break;
    at::Tensor seed = gradient;
    if (group.inputs.defined()) {
      seed = at::zeros_like(gradient).index_copy(0, group.inputs, gradient.index_select(0, group.inputs));
    }
    const auto parts = run(seed, of_weights);
    for (size_t k = 0; k < parts.size(); ++k) {
      if (parts[k].defined()) add_to_sum(group, kept.source_ids[k], parts[k]);
    }
  }
}

WeightGradients::WeightGradients(const Network& network, const FlatWeights& weights, size_t sums)
    : self_(new Implementation{.network = network, .weights = weights}) {
  if (!network.importable()) interface_misuse("weight gradients of a black-box model");
  const at::NoGradGuard constant;
  for (size_t k = 0; k < sums; ++k) self_->sums.push_back(at::zeros_like(weights.gather()));
  self_->plan();
}

WeightGradients::~WeightGradients() = default;

at::Tensor WeightGradients::forward(const at::Tensor& x, std::optional<uint64_t> dropout) {
  const at::NoGradGuard constant;
  self_->values[0].value = x.to(self_->sums[0].scalar_type());
  for (const Step& step : self_->steps) self_->forward(step, dropout);
  return self_->value(self_->network.logits_node());
}

void WeightGradients::backward(const at::Tensor& seed, const std::vector<Group>& groups) {
  const at::NoGradGuard constant;
  std::vector<at::Tensor> gradients(self_->values.size());
  gradients[static_cast<size_t>(self_->network.logits_node())] = seed;
  for (auto step = self_->steps.rbegin(); step != self_->steps.rend(); ++step) {
    at::Tensor& kept = gradients[static_cast<size_t>(step->node)];
    if (!step->needed || !kept.defined()) continue;
    at::Tensor gradient = std::move(kept);
    kept = at::Tensor();
    if (step->rule == Rule::autograd) {
      self_->backward_by_autograd(*step, gradient, groups, gradients);
      continue;
    }
    if (step->rule == Rule::conv_pool && step->relu) {
      gradient = at::threshold_backward(gradient, self_->value(step->node), 0);
    }
    if (step->rule == Rule::conv || step->rule == Rule::conv_pool || step->rule == Rule::linear ||
        step->rule == Rule::batch_norm) {
      self_->add_weights(*step, gradient, groups);
    }
    self_->pass_on(*step, gradient, gradients);
  }
}

const at::Tensor& WeightGradients::sum(size_t number) const {
  return self_->sums.at(number);
}

void WeightGradients::clear() {
  for (at::Tensor& sum : self_->sums) sum.zero_();
}

int64_t gradient_chunk(const Network& network, int64_t batch) {
  const int64_t together = values_together(network.device(), int64_t{1} << 26);
  int64_t values = 1;
  for (const Node& node : network.nodes()) {
    int64_t size = 1;
    for (const int64_t extent : node.shape) size *= extent;
    values += size;
  }
  return std::clamp<int64_t>(together / values, 1, batch);
}

}  // namespace harness
