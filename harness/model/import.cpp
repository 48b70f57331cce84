#include <ATen/ATen.h>

#include "harness/model/graph.hpp"
#include "harness/model/implementation.hpp"
#include "harness/model/recorder.hpp"

namespace harness {
namespace {

// What differs between two recordings of one module, empty when nothing does.
std::string difference(const Recording& a, const Recording& b) {
  if (!b.unknown_operator.empty()) return b.unknown_operator + ": " + b.detail;
  if (a.nodes.size() != b.nodes.size() || a.output != b.output) return "a different number of operations";
  for (size_t i = 0; i < a.nodes.size(); ++i) {
    const Node &x = a.nodes[i], &y = b.nodes[i];
    if (x.kind != y.kind || x.inputs != y.inputs || x.parameters != y.parameters) {
      return x.name + " (" + to_text(x.kind) + ") against " + y.name + " (" + to_text(y.kind) + ")";
    }
    if (!(x.attributes == y.attributes) || x.shape != y.shape) return "other attributes of " + x.name;
  }
  for (size_t i = 0; i < a.constants.size(); ++i) {
    const at::Tensor &x = a.constants[i].value, &y = b.constants.at(i).value;
    if (x.sizes() != y.sizes() || !at::equal(x, y)) return "other values of " + a.constants[i].name;
  }
  return a.transposed == b.transposed ? "" : "other orientations of weights";
}

// Operations whose value nothing reads (auxiliary heads) go.
void drop_unused(Recording& recording) {
  const graph::Marks used = graph::needed_for(recording.nodes, {0, recording.output});
  std::vector<NodeId> position(recording.nodes.size(), -1);
  std::vector<Node> kept;
  for (size_t i = 0; i < recording.nodes.size(); ++i) {
    if (!used[i]) continue;
    position[i] = static_cast<NodeId>(kept.size());
    for (NodeId& input : recording.nodes[i].inputs) input = position[input];
    kept.push_back(std::move(recording.nodes[i]));
  }
  recording.output = position[recording.output];
  recording.nodes = std::move(kept);
}

// Scripts write c - x as -x + c, traces do not: one form for both, with the same rounding.
void join_negations(Recording& recording) {
  const auto scalar_node = [&](const Node& node, NodeKind kind) {
    return node.kind == kind && node.inputs.size() == 1 && node.parameters.empty();
  };
  for (Node& node : recording.nodes) {
    if (!scalar_node(node, NodeKind::add)) continue;
    const Node& negation = recording.nodes[node.inputs[0]];
    auto a = std::get<ArithmeticAttributes>(node.attributes);
    if (a.alpha != 1 || !scalar_node(negation, NodeKind::mul)) continue;
    if (std::get<ArithmeticAttributes>(negation.attributes).scalar != -1) continue;
    a.reversed = true;
    node.kind = NodeKind::sub;
    node.attributes = a;
    node.inputs = negation.inputs;
  }
}

// A stored product with its bias behind it, x * w + b, is one dense layer. Where the product is read
// elsewhere, too, the sum stays.
void join_biases(Recording& recording, const std::vector<Parameter>& parameters) {
  std::vector<int> readers = graph::reader_counts(recording.nodes);
  ++readers[recording.output];
  for (Node& node : recording.nodes) {
    if (node.kind != NodeKind::add || node.inputs.size() != 1 || node.parameters.size() != 1) continue;
    const Node& product = recording.nodes[node.inputs[0]];
    if (product.kind != NodeKind::linear || product.parameters[1] >= 0 || readers[node.inputs[0]] != 1)
      continue;
    const ParameterId bias = node.parameters[0];
    const auto& a = std::get<ArithmeticAttributes>(node.attributes);
    if (bias >= static_cast<ParameterId>(parameters.size()) || a.alpha != 1 || a.reversed) continue;
    const at::Tensor& value = parameters[bias].value;
    if (value.dim() != 1 || value.size(0) != product.shape.back()) continue;
    // The product, which nobody reads any more, is dropped as unused.
    node.name = product.name;
    node.kind = NodeKind::linear;
    node.attributes = NoAttributes{};
    node.inputs = product.inputs;
    node.parameters = {product.parameters[0], bias};
  }
}

// torch.jit.freeze() makes constants of all parameters.
std::string frozen(const Recording& recording, const std::vector<Parameter>& parameters) {
  const bool trainable =
      std::any_of(parameters.begin(), parameters.end(), [](const Parameter& one) { return one.trainable; });
  const bool layers = std::any_of(recording.nodes.begin(), recording.nodes.end(), [](const Node& node) {
    return node.kind == NodeKind::conv || node.kind == NodeKind::linear;
  });
  if (trainable || !layers) return "";
  return "the model is frozen: its weights are constants of the graph, which nothing can change; export it "
         "before "
         "torch.jit.freeze, as torch.jit.script(model).save(FILE)";
}

// Names of operations without parameters count by kind, over what is left.
void number_names(Recording& recording) {
  std::map<std::string, int> counts;
  for (Node& node : recording.nodes) {
    const bool layer =
        node.kind == NodeKind::conv || node.kind == NodeKind::linear || node.kind == NodeKind::batch_norm;
    if (layer || node.kind == NodeKind::input) continue;
    node.name = std::string(to_text(node.kind)) + "_" + std::to_string(++counts[to_text(node.kind)]);
  }
}

std::string training_limitation(const Recording& evaluation, const torch::jit::Module& module,
                                const std::vector<Parameter>& parameters, const at::Tensor& sample,
                                ImportReport& report) {
  torch::jit::Module copy = module.deepcopy();
  copy.train();
  const Recording training = record(copy, parameters, repeated(sample, 2));
  report.follows_train = training.saw_training;
  const std::string found = difference(evaluation, training);
  if (!found.empty()) return "train mode computes something else: " + found;
  for (const Node& node : evaluation.nodes) {
    const auto* a = std::get_if<BatchNormAttributes>(&node.attributes);
    if (a != nullptr && a->momentum == 0) return node.name + " has no momentum for its running averages";
  }
  return "";
}

}  // namespace

void import_graph(Network::Implementation& implementation, const at::Tensor& sample) {
  ImportReport& report = implementation.report;
  const auto black_box = [&](const std::string& name, const std::string& detail) {
    const std::string kind = name.find("::") == std::string::npos ? "" : "operator ";
    implementation.become_black_box(name, detail,
                                    kind + name + (kind.empty() ? ": " + detail : " is unknown"));
  };
  std::vector<Parameter> parameters;
  try {
    parameters = module_parameters(*implementation.original);
  } catch (const std::runtime_error& error) {
    return black_box("shared storage", error.what());
  }
  // Two batch sizes: what follows the batch differs, everything else must agree.
  torch::jit::Module copy = implementation.original->deepcopy();
  Recording first = record(copy, parameters, repeated(sample, 2));
  if (!first.unknown_operator.empty()) return black_box(first.unknown_operator, first.detail);
  const Recording second = record(copy, parameters, repeated(sample, 3));
  if (!second.unknown_operator.empty()) return black_box(second.unknown_operator, second.detail);
  if (const std::string found = difference(first, second); !found.empty()) {
    return black_box("batch size", "two and three images are computed differently: " + found);
  }
  report.training_limitation =
      training_limitation(first, *implementation.original, parameters, sample, report);
  join_negations(first);
  join_biases(first, parameters);
  drop_unused(first);
  number_names(first);
  if (const std::string found = frozen(first, parameters); !found.empty()) {
    report.detail = report.training_limitation = found;
  }
  implementation.transposed = first.transposed;
  for (Parameter& constant : first.constants) parameters.push_back(std::move(constant));
  for (size_t id = 0; id < parameters.size(); ++id) {
    // Under no-grad mode, so that the copies are leaves.
    const at::Tensor value = parameters[id].value.detach();
    const bool turn = first.transposed.count(static_cast<ParameterId>(id)) > 0;
    parameters[id].value = (turn ? value.t() : value).clone(at::MemoryFormat::Contiguous);
  }
  implementation.parameters = std::move(parameters);
  implementation.nodes = std::move(first.nodes);
  implementation.output = implementation.logits = first.output;
  const Node& last = implementation.nodes[first.output];
  if (last.kind == NodeKind::softmax || last.kind == NodeKind::log_softmax ||
      last.kind == NodeKind::sigmoid) {
    implementation.logits = last.inputs[0];
    implementation.ends_in_softmax = last.kind == NodeKind::softmax;
  }
  report.importable = true;
  report.baked_batch = std::max(first.baked_batch, second.baked_batch);
}

}  // namespace harness
