#include <ATen/ATen.h>

#include <sstream>

#include "harness/core/error.hpp"
#include "harness/model/implementation.hpp"

namespace harness {

torch::jit::Module module_with_values(const Network::Implementation& implementation) {
  // Under grad mode, deepcopy() would make parameters that are no leaves.
  at::NoGradGuard no_grad;
  if (!implementation.report.importable) {
    const auto& source = implementation.black_box ? implementation.black_box : implementation.original;
    torch::jit::Module copy = source->deepcopy();
    copy.to(at::kCPU);
    return copy;
  }
  if (implementation.structure_changed) return generate_script(implementation);
  torch::jit::Module copy = implementation.original->deepcopy();
  std::map<std::string, at::Tensor> targets;
  for (const auto& item : copy.named_parameters()) targets[item.name] = item.value;
  for (const auto& item : copy.named_buffers()) targets[item.name] = item.value;
  for (size_t id = 0; id < implementation.parameters.size(); ++id) {
    const Parameter& parameter = implementation.parameters[id];
    // Constants of the graph have no entry.
    const auto target = targets.find(parameter.name);
    if (target == targets.end()) continue;
    target->second.copy_(implementation.stored(static_cast<ParameterId>(id)));
    // deepcopy() takes tensors that share storage apart: they share it again, in the file, too.
    for (const std::string& alias : parameter.aliases) {
      if (at::Tensor& other = targets.at(alias); !other.is_same(target->second)) {
        other.set_data(target->second.detach());
      }
    }
  }
  return copy;
}

std::string script_with_values(const Network::Implementation& implementation) {
  at::NoGradGuard no_grad;
  std::ostringstream bytes;
  module_with_values(implementation).save(bytes);
  return bytes.str();
}

ParameterId Network::add_parameter(const std::string& name, const at::Tensor& value, bool trainable) {
  self_->need_graph("add_parameter()");
  if (find_parameter(name) >= 0) interface_misuse("add_parameter with a name that is there already: " + name);
  at::NoGradGuard no_grad;
  self_->parameters.push_back({name, value.detach().to(self_->device).clone(), trainable, {}});
  self_->structure_changed = true;
  return static_cast<ParameterId>(self_->parameters.size()) - 1;
}

NodeId Network::insert_after(NodeId position, Node node) {
  self_->need_graph("insert_after()");
  auto& nodes = self_->nodes;
  const NodeId id = position + 1;
  const auto moved = [&](NodeId old) { return old > position ? old + 1 : old; };
  for (const NodeId input : node.inputs) {
    if (input > position) interface_misuse("insert_after with an input behind the position");
  }
  for (size_t i = static_cast<size_t>(id); i < nodes.size(); ++i) {
    for (NodeId& input : nodes[i].inputs) input = input == position ? id : moved(input);
  }
  self_->output = self_->output == position ? id : moved(self_->output);
  self_->logits = self_->logits == position ? id : moved(self_->logits);
  nodes.insert(nodes.begin() + id, std::move(node));
  self_->structure_changed = true;
  // One execution on zeros gives the shape and refuses what does not fit.
  std::vector<int64_t> shape = self_->input_shape;
  shape.insert(shape.begin(), 2);
  at::NoGradGuard no_grad;
  const at::Tensor probe = at::zeros(shape, at::TensorOptions(self_->dtype).device(self_->device));
  nodes[id].shape = self_->evaluate({id}, {{0, probe}})[0].sizes().slice(1).vec();
  self_->evaluate({self_->output}, {{0, probe}});
  return id;
}

}  // namespace harness
