#include "approaches/train/weight_gradients.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "harness/core/error.hpp"
#include "harness/model/autograd.hpp"
#include "harness/model/backward.hpp"
#include "harness/model/execute.hpp"
#include "harness/model/fast/conv_pool.hpp"
#include "harness/model/graph.hpp"
#include "harness/model/memory_class.hpp"

namespace harness::train {
namespace {

// A node that the logits depend on.
struct Step {
  NodeId node = 0;
  BackwardRule rule = BackwardRule::autograd;
  bool needed = false;  // a chosen weight lies at or before it
  NodeId conv = -1;     // a pooling that stands for this convolution before it, too (ConvPool),
  bool relu = false;    //   and for a ReLU between them, which commutes with the pooling
};

// What the forward pass leaves of a node.
struct Value : ForwardValue {
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
  graph::Marks carries = {};  // a chosen weight lies at or before the node

  const Node& node_of(NodeId id) const { return network.nodes()[static_cast<size_t>(id)]; }
  bool chosen(const Node& node, size_t role) const {
    const ParameterId id = graph::parameter_in(node, role);
    return id >= 0 && weights.begin_of(id) >= 0;
  }
  const at::Tensor& value(NodeId id) const { return values[static_cast<size_t>(id)].value; }
  std::vector<at::Tensor> inputs_of(const Node& node) const {
    std::vector<at::Tensor> inputs;
    for (const NodeId input : node.inputs) inputs.push_back(value(input));
    return inputs;
  }

  void plan();
  bool join_conv_and_pool(Step& step, const std::vector<int>& readers) const;
  void forward(const Step& step, std::optional<uint64_t> dropout);
  void forward_by_autograd(const Step& step, std::optional<uint64_t> dropout);
  void add_to_sum(const Group& group, ParameterId id, const at::Tensor& gradient);
  void add_weights(const Step& step, const at::Tensor& gradient, const std::vector<Group>& groups);
  void pass_on(const Step& step, const at::Tensor& gradient, std::vector<at::Tensor>& gradients) const;
  void backward_by_autograd(const Step& step, const at::Tensor& gradient, const std::vector<Group>& groups,
                            std::vector<at::Tensor>& gradients);
};

// Whether the pooling `step` reads, perhaps through a ReLU, a convolution of the network's input for which
// there is the cheaper form.
bool WeightGradients::Implementation::join_conv_and_pool(Step& step, const std::vector<int>& readers) const {
  const Node& pool = node_of(step.node);
  if (step.rule != BackwardRule::max_pool) return false;
  NodeId before = pool.inputs[0];
  const bool relu = node_of(before).kind == NodeKind::relu;
  if (relu && readers[static_cast<size_t>(before)] != 1) return false;
  if (relu) before = node_of(before).inputs[0];
  const Node& conv = node_of(before);
  if (conv.kind != NodeKind::conv || readers[static_cast<size_t>(before)] != 1) return false;
  const at::Tensor weight = graph::constant_value(network, conv.parameters[0]);
  if (conv.inputs[0] != 0 || !weight.is_cpu() || weight.scalar_type() != at::kFloat) return false;
  if (!ConvPool::fits(conv, weight, pool)) return false;
  step.conv = before;
  step.relu = relu;
  return true;
}

void WeightGradients::Implementation::plan() {
  const std::vector<Node>& nodes = network.nodes();
  const NodeId logits = network.logits_node();
  const graph::Marks live = graph::needed_for(nodes, {logits});
  std::vector<int> readers = graph::reader_counts(nodes, live);
  ++readers[static_cast<size_t>(logits)];
  graph::Marks with_chosen(nodes.size(), 0);
  for (size_t id = 0; id < nodes.size(); ++id) {
    for (size_t role = 0; role < nodes[id].parameters.size(); ++role)
      with_chosen[id] |= chosen(nodes[id], role);
  }
  carries = graph::dependents_of(nodes, std::move(with_chosen));
  std::vector<NodeId> joined;
  for (NodeId id = 1; id <= logits; ++id) {
    if (!live[static_cast<size_t>(id)]) continue;
    Step step{.node = id,
              .rule = backward_rule(node_of(id), [&](NodeId of) -> const Node& { return node_of(of); }),
              .needed = carries[static_cast<size_t>(id)] != 0};
    if (step.needed && join_conv_and_pool(step, readers)) {
      joined.push_back(step.conv);
      if (step.relu) joined.push_back(node_of(id).inputs[0]);
    }
    steps.push_back(step);
  }
  std::erase_if(steps,
                [&](const Step& step) { return std::ranges::find(joined, step.node) != joined.end(); });
  values.resize(nodes.size());
}

void WeightGradients::Implementation::forward(const Step& step, std::optional<uint64_t> dropout) {
  const Node& node = node_of(step.node);
  Value& out = values[static_cast<size_t>(step.node)];
  if (step.conv >= 0) {
    const Node& conv = node_of(step.conv);
    const std::vector<at::Tensor> parameters = graph::constant_values(network, conv);
    out.conv_pool.emplace(conv, parameters[0], parameters[1], node, node_of(0).shape);
    auto pooled = out.conv_pool->forward(value(0));
    out.value = step.relu ? pooled.value.relu_() : pooled.value;
    out.positions = std::move(pooled.positions);
    return;
  }
  if (step.needed && step.rule == BackwardRule::autograd) return forward_by_autograd(step, dropout);
  const std::vector<at::Tensor> inputs = inputs_of(node), parameters = graph::constant_values(network, node);
  if (step.needed) {
    static_cast<ForwardValue&>(out) = forward_value({step.rule, node, inputs, parameters});
    return;
  }
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
    parameters.push_back(graph::constant_value(network, node.parameters[role]));
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
  const Node& node = node_of(step.conv >= 0 ? step.conv : step.node);
  const bool weight = chosen(node, 0), bias = chosen(node, 1);
  if (!weight && !bias) return;
  const Value& kept = values[static_cast<size_t>(step.node)];
  const std::vector<at::Tensor> inputs = inputs_of(node), parameters = graph::constant_values(network, node);
  for (const Group& group : groups) {
    if (group.inputs.defined() && group.inputs.numel() == 0) continue;
    const at::Tensor g = rows_of(gradient, group.inputs), x = rows_of(inputs[0], group.inputs);
    ParameterGradients found;
    if (step.conv >= 0) {
      if (weight) found.weight = kept.conv_pool->weight_gradient(x, g, rows_of(kept.positions, group.inputs));
      if (bias) found.bias = g.sum({0, 2, 3});
    } else {
      found = parameter_gradients({step.rule, node, inputs, parameters}, x, g, weight, bias);
    }
    if (weight) add_to_sum(group, node.parameters[0], found.weight);
    if (bias) add_to_sum(group, node.parameters[1], found.bias);
  }
}

// Adds d loss / d input to `gradients` for the inputs that chosen weights lie at or before.
void WeightGradients::Implementation::pass_on(const Step& step, const at::Tensor& gradient,
                                              std::vector<at::Tensor>& gradients) const {
  const Node& node = node_of(step.node);
  const std::vector<at::Tensor> inputs = inputs_of(node), parameters = graph::constant_values(network, node);
  for (size_t k = 0; k < inputs.size(); ++k) {
    const auto to = static_cast<size_t>(node.inputs[k]);
    if (!carries[to]) continue;
    const at::Tensor part = input_gradient({step.rule, node, inputs, parameters},
                                           values[static_cast<size_t>(step.node)], gradient, k);
    at::Tensor& sum = gradients[to];
    sum = sum.defined() ? sum + part : part;
  }
}

void WeightGradients::Implementation::backward_by_autograd(const Step& step, const at::Tensor& gradient,
                                                           const std::vector<Group>& groups,
                                                           std::vector<at::Tensor>& gradients) {
  const Value& kept = values[static_cast<size_t>(step.node)];
  const auto run = [&](const at::Tensor& seed, const std::vector<at::Tensor>& sources) {
    return grad({kept.recorded}, sources, {seed}, {.retain_graph = true, .allow_unused = true});
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
    if (step->conv >= 0) {  // reads the network's input, whose gradient nobody wants
      if (step->relu) gradient = at::threshold_backward(gradient, self_->value(step->node), 0);
      self_->add_weights(*step, gradient, groups);
    } else if (step->rule == BackwardRule::autograd) {
      self_->backward_by_autograd(*step, gradient, groups, gradients);
    } else {
      if (has_parameters(step->rule)) self_->add_weights(*step, gradient, groups);
      self_->pass_on(*step, gradient, gradients);
    }
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
  return std::clamp<int64_t>(together / (1 + graph::total_value_count(network.nodes())), 1, batch);
}

}  // namespace harness::train
