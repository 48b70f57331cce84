#include "approaches/last_layer.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "approaches/batches.hpp"
#include "harness/model/graph.hpp"

namespace harness {

std::optional<TargetLayer> last_dense_layer(const Network& network) {
  const std::vector<TargetLayer> layers = dense_layers(network);
  if (layers.empty() || layers.back().node != network.logits_node()) return std::nullopt;
  return layers.back();
}

std::optional<TargetLayer> hidden_before(const Network& network, const TargetLayer& head) {
  const std::vector<Node>& nodes = network.nodes();
  NodeId at = head.input;
  while (nodes[at].kind == NodeKind::dropout && graph::only_reader(nodes, at)) at = nodes[at].inputs.at(0);
  if (nodes[at].kind != NodeKind::relu || !graph::only_reader(nodes, at)) return std::nullopt;
  for (const TargetLayer& layer : dense_layers(network)) {
    if (layer.behind == at) return layer;
  }
  return std::nullopt;
}

std::optional<Refusal> refuse_without_last_layer(const FixRequest& request) {
  if (const auto refusal = refuse_without_dense_layers(request)) return refusal;
  if (last_dense_layer(*request.network)) return std::nullopt;
  return Refusal{"structure", "the logits do not come from a dense layer with weights of its own"};
}

HeadView view_head(const Network& network, const TargetLayer& head, const Split& split,
                   const Batching& batching) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> phi = {at::empty({0, network.nodes()[head.input].shape.at(0)})},
                          predictions = {at::empty({0}, at::kLong)};
  for_each_batch(network, split, batching, [&](const Batch& batch) {
    const auto values = network.activations(batch.x, {head.input, network.output_node()});
    phi.push_back(values[0].cpu());
    predictions.push_back(values[1].argmax(1).cpu());
  });
  HeadView view{.judgement = locate::judgement_of(split.labels(), at::cat(predictions)),
                .phi = at::cat(phi),
                .logits = {}};
  view.logits = head_logits(network, head, view.phi, network.parameters()[head.weight].value);
  return view;
}

std::vector<int64_t> faults_by_gap(const HeadView& view) {
  std::vector<std::pair<double, int64_t>> by_gap;
  for (const int64_t n : view.judgement.wrong) {
    at::Tensor others = view.logits[n].clone();
    const int64_t label = view.judgement.labels[n].item<int64_t>();
    const double own = others[label].item<double>();
    others[label] = -std::numeric_limits<double>::infinity();
    by_gap.emplace_back(others.max().item<double>() - own, n);
  }
  std::ranges::sort(by_gap);
  std::vector<int64_t> faults;
  for (const auto& [gap, n] : by_gap) faults.push_back(n);
  return faults;
}

HeadCheck check_inputs(const Network& network, const at::Tensor& inputs, const at::Tensor& labels,
                       const Batching& batching) {
  HeadCheck check{.right = 0, .min_margin = std::numeric_limits<double>::infinity()};
  for (int64_t begin = 0; begin < inputs.size(0); begin += batching.batch) {
    batching.stop.check();
    const int64_t size = std::min(batching.batch, inputs.size(0) - begin);
    const at::Tensor x = inputs.narrow(0, begin, size).to(network.device()),
                     y = labels.narrow(0, begin, size);
    check.right += network.classify(x).cpu().eq(y).sum().item<int64_t>();
    at::Tensor logits = network.logits(x).cpu().to(at::kDouble);
    const at::Tensor own = logits.gather(1, y.unsqueeze(1)).squeeze(1);
    logits.scatter_(1, y.unsqueeze(1), -std::numeric_limits<double>::infinity());
    check.min_margin = std::min(check.min_margin, (own - logits.amax(1)).min().item<double>());
  }
  return check;
}

void log_effect(const Network& fixed, const HeadView& before, const Split& split, FixContext& context) {
  locate::Judgement after;
  try {
    after = locate::judge_split(fixed, split, {context.batch(), context.stop()});
  } catch (const FixStopped&) {
    return;
  }
  const auto count = [&](const std::string& name, const std::vector<int64_t>& inputs) {
    context.log().scalars[name] = static_cast<double>(inputs.size());
  };
  std::vector<int64_t> kept, gained;
  std::ranges::set_intersection(before.judgement.correct, after.correct, std::back_inserter(kept));
  std::ranges::set_intersection(before.judgement.wrong, after.correct, std::back_inserter(gained));
  count("correct_before", before.judgement.correct);
  count("correct_kept", kept);
  count("faults", before.judgement.wrong);
  count("faults_fixed", gained);
}

at::Tensor head_logits(const Network& network, const TargetLayer& head, const at::Tensor& phi,
                       const at::Tensor& kernel) {
  const at::NoGradGuard no_grad;
  const ParameterId bias = graph::parameter_in(network.nodes()[head.node], 1);
  at::Tensor logits = phi.to(at::kDouble).matmul(kernel.detach().cpu().to(at::kDouble).t());
  if (bias >= 0) logits += graph::constant_value(network, bias).cpu().to(at::kDouble);
  return logits;
}

void add_to_kernel(Network& network, const TargetLayer& layer, const at::Tensor& change, Touched& touched) {
  const at::NoGradGuard no_grad;
  const Parameter& parameter = network.parameters()[layer.weight];
  const at::Tensor before = parameter.value.detach().cpu();
  const at::Tensor after = at::where(change.ne(0), (before.to(at::kDouble) + change).to(at::kFloat), before);
  const at::Tensor different = after.ne(before).flatten().nonzero().flatten();
  if (different.numel() == 0) return;
  const auto* index = different.data_ptr<int64_t>();
  touched.weights[parameter.name].assign(index, index + different.numel());
  network.set_parameter(layer.weight, after.to(network.device()));
}

}  // namespace harness
