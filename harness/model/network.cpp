#include "harness/model/network.hpp"

#include <cmath>
#include <sstream>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/model/graph.hpp"
#include "harness/model/implementation.hpp"

namespace harness {

Network::Network(std::unique_ptr<Implementation> implementation) : self_(std::move(implementation)) {}
Network::Network(Network&&) noexcept = default;
Network& Network::operator=(Network&&) noexcept = default;
Network::~Network() = default;

void Network::Implementation::need_graph(const char* what) const {
  if (!report.importable) {
    interface_misuse(std::string(what) + " on a black-box model (unknown operator " +
                     report.unknown_operator + ")");
  }
}

std::vector<at::Tensor> Network::Implementation::evaluate(const std::vector<NodeId>& wanted,
                                                          std::map<NodeId, at::Tensor> known,
                                                          const std::map<ParameterId, at::Tensor>& overrides,
                                                          const PassMode& mode) const {
  // Which nodes are computed, and how often each value is still read.
  const auto given = [&](size_t i) { return known.count(static_cast<NodeId>(i)) > 0; };
  graph::Marks computed = graph::needed_for(nodes, wanted, given);
  for (size_t i = 0; i < nodes.size(); ++i) computed[i] = computed[i] && !given(i);
  std::vector<int> readers = graph::reader_counts(nodes, computed);
  for (const NodeId id : wanted) ++readers[id];  // never released
  std::vector<at::Tensor> values(nodes.size());
  for (auto& [id, value] : known) values[id] = value;
  std::vector<at::Tensor> inputs, arguments;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (!computed[i]) continue;
    const Node& node = nodes[i];
    if (node.kind == NodeKind::input)
      interface_misuse("a part of the network was evaluated without its input");
    inputs.clear();
    arguments.clear();
    for (const NodeId input : node.inputs) inputs.push_back(values[input]);
    for (const ParameterId id : node.parameters) {
      if (id < 0) {
        arguments.emplace_back();
        continue;
      }
      const auto replaced = overrides.find(id);
      arguments.push_back(replaced == overrides.end() ? parameters[id].value : replaced->second);
    }
    values[i] = execute(node, inputs, arguments, mode);
    inputs.clear();
    for (const NodeId input : node.inputs) {
      if (--readers[input] == 0) values[input] = at::Tensor();
    }
  }
  std::vector<at::Tensor> result;
  for (const NodeId id : wanted) result.push_back(values[id]);
  return result;
}

at::Tensor Network::Implementation::run_black_box(const at::Tensor& x) const {
  // A copy, as such models write to their input; a lone image twice, as they squeeze the batch away.
  const at::Tensor images = x.size(0) == 1 ? at::cat({x, x}) : x.clone();
  const c10::IValue output =
      placed ? run_placed(*placed, *black_box, images) : run_script(*black_box, images);
  return output.toTensor().narrow(0, 0, x.size(0));
}

Network Network::fork() const {
  at::NoGradGuard no_grad;
  auto copy = std::make_unique<Implementation>(*self_);
  for (Parameter& parameter : copy->parameters) parameter.value = parameter.value.detach().clone();
  if (copy->black_box) copy->black_box = std::make_shared<torch::jit::Module>(self_->black_box->deepcopy());
  return Network(std::move(copy));
}

void Network::to(at::Device device) {
  at::NoGradGuard no_grad;
  for (Parameter& parameter : self_->parameters) parameter.value = parameter.value.detach().to(device);
  if (self_->black_box && device != self_->device) place_black_box(*self_, device);
  self_->device = device;
}

at::Device Network::device() const {
  return self_->device;
}
const ImportReport& Network::report() const {
  return self_->report;
}
const std::vector<Node>& Network::nodes() const {
  return self_->nodes;
}
NodeId Network::output_node() const {
  return self_->output;
}
NodeId Network::logits_node() const {
  return self_->logits;
}
bool Network::ends_in_softmax() const {
  return self_->ends_in_softmax;
}
int64_t Network::classes() const {
  return self_->classes;
}
const std::vector<int64_t>& Network::input_shape() const {
  return self_->input_shape;
}
const std::vector<Parameter>& Network::parameters() const {
  return self_->parameters;
}

at::Tensor Network::differentiable_output(const at::Tensor& x) const {
  const at::Tensor input = x.to(self_->dtype);
  if (!importable()) return self_->run_black_box(input);
  return self_->evaluate({self_->output}, {{0, input}})[0];
}

at::Tensor Network::differentiable_logits(const at::Tensor& x) const {
  const at::Tensor input = x.to(self_->dtype);
  if (!importable()) return self_->run_black_box(input);
  return self_->evaluate({self_->logits}, {{0, input}})[0];
}

at::Tensor Network::output(const at::Tensor& x) const {
  at::NoGradGuard no_grad;
  return differentiable_output(x);
}

at::Tensor Network::logits(const at::Tensor& x) const {
  at::NoGradGuard no_grad;
  return differentiable_logits(x);
}

at::Tensor Network::probabilities(const at::Tensor& x) const {
  return self_->ends_in_softmax ? output(x) : at::softmax(logits(x), 1);
}

at::Tensor Network::classify(const at::Tensor& x) const {
  return output(x).argmax(1);
}

std::vector<at::Tensor> Network::activations(const at::Tensor& x, const std::vector<NodeId>& ids) const {
  self_->need_graph("activations()");
  return self_->evaluate(ids, {{0, x.to(self_->dtype)}});
}

at::Tensor Network::training_logits(const at::Tensor& x, uint64_t seed) {
  self_->need_graph("training_logits()");
  return self_->evaluate({self_->logits}, {{0, x.to(self_->dtype)}}, {}, {true, seed})[0];
}

ParameterId Network::find_parameter(const std::string& name) const {
  for (size_t i = 0; i < self_->parameters.size(); ++i) {
    const Parameter& parameter = self_->parameters[i];
    const auto& aliases = parameter.aliases;
    if (parameter.name == name || std::find(aliases.begin(), aliases.end(), name) != aliases.end()) {
      return static_cast<ParameterId>(i);
    }
  }
  return -1;
}

NodeId Network::node_of(ParameterId parameter) const {
  for (size_t i = 0; i < self_->nodes.size(); ++i) {
    const auto& ids = self_->nodes[i].parameters;
    if (std::find(ids.begin(), ids.end(), parameter) != ids.end()) return static_cast<NodeId>(i);
  }
  return -1;
}

void Network::set_parameter(ParameterId id, const at::Tensor& value) {
  at::NoGradGuard no_grad;
  at::Tensor& target = self_->parameters.at(id).value;
  if (target.sizes() != value.sizes())
    interface_misuse("set_parameter with another shape: " + self_->parameters[id].name);
  target.copy_(value);
}

std::vector<std::string> Network::not_finite() const {
  at::NoGradGuard no_grad;
  std::vector<std::string> names;
  const auto look_at = [&](const std::string& name, const at::Tensor& value, bool trainable) {
    if (!value.is_floating_point() || value.numel() == 0) return;
    const auto [low, high] = value.detach().aminmax();  // of NaN both are NaN
    if (std::isfinite(low.item<double>()) && std::isfinite(high.item<double>())) return;
    const auto is_mask = [&] { return value.isneginf().logical_or(value.eq(0)).all().item<bool>(); };
    if (trainable || !is_mask()) names.push_back(name);
  };
  if (importable()) {
    for (const Parameter& parameter : self_->parameters) {
      look_at(parameter.name, parameter.value, parameter.trainable);
    }
    return names;
  }
  for (const auto& item : self_->black_box->named_parameters()) look_at(item.name, item.value, true);
  for (const auto& item : self_->black_box->named_buffers()) look_at(item.name, item.value, false);
  return names;
}

void Network::require_grad(bool on) {
  for (Parameter& parameter : self_->parameters) {
    if (parameter.trainable) parameter.value.requires_grad_(on);
  }
}

std::string Network::digest() const {
  std::ostringstream text;
  const auto add = [&](const std::string& name, const at::Tensor& value) {
    const at::Tensor bytes = value.detach().cpu().contiguous();
    text << name << ' ' << bytes.sizes() << ' ' << bytes.scalar_type() << ' '
         << digest_of({static_cast<const char*>(bytes.data_ptr()), bytes.nbytes()}) << '\n';
  };
  if (!importable()) {
    for (const auto& item : self_->black_box->named_parameters()) add(item.name, item.value);
    for (const auto& item : self_->black_box->named_buffers()) add(item.name, item.value);
    text << self_->black_box->get_method("forward").graph()->toString(false);
    return digest_of(text.str());
  }
  for (const Node& node : self_->nodes) {
    text << to_text(node.kind) << ' ' << node.inputs << ' ' << node.parameters << ' ' << node.shape << ' '
         << attributes_text(node) << '\n';
  }
  for (const Parameter& parameter : self_->parameters) add(parameter.name, parameter.value);
  return digest_of(text.str());
}

void Network::save(const std::filesystem::path& file) const {
  write_atomically(file, script_with_values(*self_));
}

}  // namespace harness
