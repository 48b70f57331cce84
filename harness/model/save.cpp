#include <ATen/ATen.h>

#include <sstream>

#include "harness/core/error.hpp"
#include "harness/model/implementation.hpp"

namespace harness {

std::string script_with_values(const Network::Implementation& implementation) {
  // Under grad mode, deepcopy() would make parameters that are no leaves.
  at::NoGradGuard no_grad;
  std::ostringstream bytes;
  if (!implementation.report.importable) {
    torch::jit::Module copy = implementation.black_box->deepcopy();
    copy.to(at::kCPU);
    copy.save(bytes);
    return bytes.str();
  }
  if (implementation.structure_changed) {
    generate_script(implementation).save(bytes);
    return bytes.str();
  }
  torch::jit::Module copy = implementation.original->deepcopy();
  std::map<std::string, at::Tensor> targets;
  for (const auto& item : copy.named_parameters()) targets[item.name] = item.value;
  for (const auto& item : copy.named_buffers()) targets[item.name] = item.value;
  for (const Parameter& parameter : implementation.parameters) {
    // Aliases share the storage of the first name, in the copy too. Constants of the graph have no entry.
    if (const auto target = targets.find(parameter.name); target != targets.end()) {
      target->second.copy_(parameter.value);
    }
  }
  copy.save(bytes);
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
