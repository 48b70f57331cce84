#include "harness/model/recorder.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>

#include "harness/model/cause.hpp"

namespace harness {
namespace {

std::string base_name(const c10::FunctionSchema& schema) {
  std::string name = schema.name();
  const bool in_place = name.size() > 2 && name.back() == '_' && name[name.size() - 2] != '_';
  if (in_place) name.pop_back();
  return name;
}

}  // namespace

bool Call::has(const char* argument) const {
  return schema_.argumentIndexWithName(argument).has_value();
}

const c10::IValue& Call::operator[](const char* argument) const {
  const auto index = schema_.argumentIndexWithName(argument);
  if (!index) throw RecordingStop{name_, std::string("has no argument ") + argument};
  return arguments_.at(static_cast<size_t>(*index));
}

std::vector<int64_t> Call::integers(const char* argument) const {
  const c10::IValue& value = (*this)[argument];
  if (value.isInt()) return {value.toInt()};
  if (value.isNone()) return {};
  return value.toIntVector();
}

double Call::number(const char* argument) const {
  return (*this)[argument].toScalar().toDouble();
}

Recording record(torch::jit::Module& module, const std::vector<Parameter>& parameters,
                 const at::Tensor& sample) {
  at::NoGradGuard no_grad;
  Recorder recorder(parameters, sample, module.is_training());
  std::string operator_name, detail;
  try {
    recorder.run(module);
  } catch (const RecordingStop& stop) {
    operator_name = stop.operator_name;
    detail = stop.detail;
  }
  Recording recording = recorder.take();
  recording.unknown_operator = operator_name;
  recording.detail = detail;
  return recording;
}

Recorder::Recorder(const std::vector<Parameter>& parameters, const at::Tensor& sample, bool train_mode)
    : parameters_(parameters), batch_(sample.size(0)), train_mode_(train_mode), trace_(parameters) {
  // In-place operators may write to the input: the caller's sample stays as it is.
  const at::Tensor input = sample.clone();
  Node node;
  node.kind = NodeKind::input;
  node.name = "input";
  node.shape = input.sizes().slice(1).vec();
  names_.insert(node.name);
  recording_.nodes.push_back(node);
  tracked_[input.unsafeGetTensorImpl()] = 0;
  alive_.push_back(input);
}

void Recorder::run(torch::jit::Module& module) {
  // Tensors of this module by name: the recorded module is a copy of the one `parameters_` came from.
  std::map<std::string, ParameterId> ids;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    ids[parameters_[i].name] = static_cast<ParameterId>(i);
    for (const std::string& alias : parameters_[i].aliases) ids[alias] = static_cast<ParameterId>(i);
  }
  const auto learn = [&](const std::string& name, const at::Tensor& value) {
    if (const auto id = ids.find(name); id != ids.end()) trace_.learn(id->second, value);
  };
  for (const auto& item : module.named_parameters()) learn(item.name, item.value);
  for (const auto& item : module.named_buffers()) learn(item.name, item.value);

  auto graph = module.get_method("forward").graph()->copy();
  torch::jit::Inline(*graph);
  environment_[graph->inputs()[0]] = module._ivalue();
  if (graph->inputs().size() < 2) stop("forward", "takes no image batch");
  environment_[graph->inputs()[1]] = alive_[0];
  const c10::FunctionSchema schema = module.get_method("forward").function().getSchema();
  for (size_t i = 2; i < graph->inputs().size(); ++i) {
    const c10::Argument& argument = schema.arguments().at(i);
    if (!argument.default_value())
      stop("forward", "takes other arguments than one image batch: " + argument.name());
    environment_[graph->inputs()[i]] = *argument.default_value();
  }
  run_block(graph->block());
  const c10::IValue output = environment_.at(graph->outputs()[0]);
  if (!output.isTensor() || !tracked(output))
    stop("forward", "returns something else than one tensor of the input");
  refuse_stale("forward", {output});
  recording_.output = node_of(output);
  refuse_written_state();
  for (const auto& [id, transposed] : orientation_) {
    if (transposed) recording_.transposed.insert(id);
  }
}

void Recorder::stop(const std::string& name, const std::string& detail) const {
  throw RecordingStop{name, detail};
}

void Recorder::note_training(const Call& call, bool training) {
  if (training && !train_mode_) {
    stop(call.name(),
         "in training mode although the model is not; call model.eval() before tracing, and give "
         "F.dropout and F.batch_norm training=self.training");
  }
  recording_.saw_training = recording_.saw_training || training;
}

void Recorder::run_block(torch::jit::Block* block) {
  for (torch::jit::Node* node : block->nodes()) run_node(node);
}

void Recorder::run_node(torch::jit::Node* node) {
  if (node->kind() == c10::prim::If) return run_if(node);
  if (node->kind() == c10::prim::Loop) return run_loop(node);
  if (!run_structural(node)) run_operator(node);
}

void Recorder::run_if(torch::jit::Node* node) {
  torch::jit::Block* branch = node->blocks()[environment_.at(node->input(0)).toBool() ? 0 : 1];
  run_block(branch);
  for (size_t i = 0; i < node->outputs().size(); ++i) {
    environment_[node->output(i)] = environment_.at(branch->outputs()[i]);
  }
}

void Recorder::run_loop(torch::jit::Node* node) {
  torch::jit::Block* body = node->blocks()[0];
  const int64_t trips = environment_.at(node->input(0)).toInt();
  bool go_on = environment_.at(node->input(1)).toBool();
  std::vector<c10::IValue> carried;
  for (size_t i = 2; i < node->inputs().size(); ++i) carried.push_back(environment_.at(node->input(i)));
  for (int64_t trip = 0; trip < trips && go_on; ++trip) {
    environment_[body->inputs()[0]] = trip;
    for (size_t i = 0; i < carried.size(); ++i) environment_[body->inputs()[i + 1]] = carried[i];
    run_block(body);
    go_on = environment_.at(body->outputs()[0]).toBool();
    for (size_t i = 0; i < carried.size(); ++i) carried[i] = environment_.at(body->outputs()[i + 1]);
  }
  for (size_t i = 0; i < carried.size(); ++i) environment_[node->output(i)] = carried[i];
}

// Constants, attributes and containers: what TorchScript's own interpreter treats as instructions.
bool Recorder::run_structural(torch::jit::Node* node) {
  const auto kind = node->kind();
  const auto input = [&](size_t i) -> c10::IValue& { return environment_.at(node->input(i)); };
  const auto set = [&](c10::IValue value) { environment_[node->output(0)] = std::move(value); };
  if (kind == c10::prim::Constant) {
    // Function-typed constants have no value; nothing but (inlined) calls would read them.
    set(torch::jit::toIValue(node->output(0)).value_or(c10::IValue()));
  } else if (kind == c10::prim::GetAttr) {
    set(input(0).toObject()->getAttr(node->s(c10::attr::name)));
  } else if (kind == c10::prim::SetAttr) {
    input(0).toObject()->setAttr(node->s(c10::attr::name), input(1));
  } else if (kind == c10::prim::ListConstruct) {
    auto list = c10::impl::GenericList(node->output(0)->type()->expectRef<c10::ListType>().getElementType());
    for (size_t i = 0; i < node->inputs().size(); ++i) list.push_back(input(i));
    set(list);
  } else if (kind == c10::prim::TupleConstruct) {
    std::vector<c10::IValue> values;
    for (size_t i = 0; i < node->inputs().size(); ++i) values.push_back(input(i));
    set(c10::ivalue::Tuple::create(std::move(values)));
  } else if (kind == c10::prim::DictConstruct) {
    const auto& type = node->output(0)->type()->expectRef<c10::DictType>();
    auto dict = c10::impl::GenericDict(type.getKeyType(), type.getValueType());
    for (size_t i = 0; i + 1 < node->inputs().size(); i += 2) dict.insert_or_assign(input(i), input(i + 1));
    set(dict);
  } else if (kind == c10::prim::ListUnpack) {
    const auto list = input(0).toList();
    for (size_t i = 0; i < node->outputs().size(); ++i) environment_[node->output(i)] = list.get(i);
  } else if (kind == c10::prim::TupleUnpack) {
    const auto tuple = input(0).toTuple();
    for (size_t i = 0; i < node->outputs().size(); ++i) environment_[node->output(i)] = tuple->elements()[i];
  } else if (kind == c10::prim::unchecked_cast) {
    set(input(0));
  } else if (kind == c10::prim::Uninitialized) {
    set(c10::IValue());
  } else if (kind == c10::prim::isinstance) {
    const auto& types = node->tys(c10::attr::types);
    const c10::TypePtr actual = input(0).type();
    set(std::any_of(types.begin(), types.end(),
                    [&](const auto& type) { return actual->isSubtypeOf(*type); }));
  } else if (kind == c10::prim::CallMethod || kind == c10::prim::CallFunction || kind == c10::prim::fork) {
    stop(kind.toQualString(), "a call that cannot be inlined");
  } else {
    return false;
  }
  return true;
}

bool Recorder::tracked(const c10::IValue& value) const {
  return value.isTensor() && value.toTensor().defined() &&
         tracked_.count(value.toTensor().unsafeGetTensorImpl()) > 0;
}

// Tuples and dictionaries hand their tensors on; what takes one computes nothing.
bool Recorder::any_tracked(const c10::IValue& value) const {
  if (!value.isTensor() && !value.isTensorList()) return false;
  bool found = false;
  for_each_tensor(value, [&](const at::Tensor& tensor) { found = found || tracked(tensor); });
  return found;
}

NodeId Recorder::node_of(const c10::IValue& value) const {
  if (!tracked(value))
    throw RecordingStop{"forward", "a value that does not come from the input is used as one"};
  return tracked_.at(value.toTensor().unsafeGetTensorImpl());
}

void Recorder::run_operator(torch::jit::Node* node) {
  const std::string name = node->kind().toQualString();
  if (node->maybeOperator() == nullptr) stop(name, "not an operator of this LibTorch");
  std::vector<c10::IValue> arguments;
  for (torch::jit::Value* value : node->inputs()) arguments.push_back(environment_.at(value));
  refuse_stale(name, arguments);
  if (std::any_of(arguments.begin(), arguments.end(),
                  [&](const auto& value) { return any_tracked(value); })) {
    record_operator(node, std::move(arguments));
  } else {
    run_untracked(node, arguments);
  }
}

// Not of the input: sizes, numbers, list handling, things made of parameters. Computed, not recorded.
void Recorder::run_untracked(torch::jit::Node* node, const std::vector<c10::IValue>& arguments) {
  const c10::FunctionSchema& schema = node->schema();
  torch::jit::Stack stack(arguments.begin(), arguments.end());
  if (schema.is_vararg()) stack.emplace_back(static_cast<int64_t>(arguments.size()));
  try {
    node->getOperation()(stack);
  } catch (const std::exception& error) {
    stop(schema.name(), cause_of(error));
  }
  for (size_t i = 0; i < node->outputs().size(); ++i) environment_[node->output(i)] = stack.at(i);
  note_writes(schema, arguments, false);
  const Call call(schema, base_name(schema), arguments);
  if (is_shape_query(call.name()) || is_message(call.name())) return;
  // Containers hand on what they hold.
  const bool container = !arguments.empty() &&
                         (is_list_operator(call) || arguments[0].isTuple() || arguments[0].isGenericDict());
  if (container) return;
  const std::vector<c10::IValue> outputs(stack.begin(), stack.end());
  for (const c10::IValue& output : outputs) {
    for_each_tensor(output, [&](const at::Tensor& tensor) { alive_.push_back(tensor); });
  }
  if (is_filled(call.name())) return;
  trace_.follow(call.name(), arguments, outputs);
  // Numbers and truth values stay in the recording as they are now.
  const bool tensors = std::all_of(outputs.begin(), outputs.end(), [](const c10::IValue& value) {
    return value.isTensor() || value.isTensorList() || value.isNone();
  });
  if (!tensors) note_read(schema.name(), trace_.sources(arguments));
}

void Recorder::record_operator(torch::jit::Node* node, std::vector<c10::IValue> arguments) {
  const c10::FunctionSchema& schema = node->schema();
  torch::jit::Stack stack(arguments.begin(), arguments.end());
  if (schema.is_vararg()) stack.emplace_back(static_cast<int64_t>(arguments.size()));
  for (size_t i = 0; i < arguments.size() && i < schema.arguments().size(); ++i) {
    const auto* alias = schema.arguments()[i].alias_info();
    if (alias == nullptr || !alias->isWrite() || !arguments[i].isTensor() || tracked(arguments[i])) continue;
    // Written by what comes of the input: what it held before is what the node reads.
    const std::set<ParameterId> from = trace_.sources({arguments[i]});
    if (!from.empty()) stop(schema.name(), "writes values of the input into " + trace_.names(from));
    if (arguments[i].toTensor().defined()) arguments[i] = arguments[i].toTensor().clone();
  }
  Call call(schema, base_name(schema), arguments);
  // A view of a baked size would fail or, worse, mix images: the table decides it before it runs.
  if (call.name() == "aten::view" || call.name() == "aten::reshape") {
    if (recognise(*this, call)) {
      environment_[node->output(0)] = call.outputs.at(0);
      return;
    }
  }
  const std::vector<c10::IValue> given(stack.begin(), stack.begin() + static_cast<int64_t>(arguments.size()));
  try {
    node->getOperation()(stack);
  } catch (const std::exception& error) {
    stop(schema.name(), "fails on " + std::to_string(batch_) + " images: " + cause_of(error));
  }
  call.outputs.assign(stack.begin(), stack.end());
  if (is_list_operator(call)) {
    for (size_t i = 0; i < node->outputs().size(); ++i) environment_[node->output(i)] = call.outputs.at(i);
    return;
  }
  if (ignores_values(*this, call)) {
    // The values are those of the other arguments, which the input has no part in.
    std::erase_if(arguments, [&](const c10::IValue& value) { return any_tracked(value); });
    trace_.follow(call.name(), arguments, call.outputs);
    alive_.push_back(call.outputs.at(0).toTensor());
    environment_[node->output(0)] = call.outputs[0];
    return;
  }
  // Dropout in evaluation mode returns what it is given.
  const bool drops = call.has("train") && call.has("p") && !call["train"].toBool();
  if (!drops) note_writes(schema, given, true);
  const bool makes_tensor =
      std::any_of(call.outputs.begin(), call.outputs.end(),
                  [](const c10::IValue& value) { return value.isTensor() || value.isTensorList(); });
  if (!makes_tensor && !schema.is_mutable() && !is_shape_query(call.name())) {
    stop(schema.name(), "the model's course depends on tensor values");
  }
  if (makes_tensor && !recognise(*this, call)) stop(schema.name(), "no layer operator known here");
  for (size_t i = 0; i < node->outputs().size(); ++i) environment_[node->output(i)] = call.outputs.at(i);
}

std::string Recorder::unique_name(const Node& node) {
  std::string stem = to_text(node.kind);
  const bool is_layer =
      node.kind == NodeKind::conv || node.kind == NodeKind::linear || node.kind == NodeKind::batch_norm;
  const auto owner = is_layer ? std::find_if(node.parameters.begin(), node.parameters.end(),
                                             [](ParameterId id) { return id >= 0; })
                              : node.parameters.end();
  if (owner != node.parameters.end() && *owner < static_cast<ParameterId>(parameters_.size())) {
    const std::string& name = parameters_[*owner].name;
    const size_t dot = name.rfind('.');
    if (dot != std::string::npos && names_.insert(name.substr(0, dot)).second) return name.substr(0, dot);
    if (dot != std::string::npos) stem = name.substr(0, dot);
  }
  std::string name;
  do {
    name = stem + "_" + std::to_string(++name_counts_[stem]);
  } while (!names_.insert(name).second);
  return name;
}

NodeId Recorder::emit(Node node, c10::IValue& output, bool in_place) {
  at::Tensor value = output.toTensor();
  const bool is_input = tracked(output) && !in_place;
  if (value.dim() == 0 || value.size(0) != batch_) {
    stop(to_text(node.kind), "the images of a batch do not stay apart in the first dimension");
  }
  if (is_input && node.kind == NodeKind::dropout) {
    value = value.clone();  // an identity of its own: in train mode the two differ
    output = value;
  }
  node.shape = value.sizes().slice(1).vec();
  node.name = unique_name(node);
  const auto id = static_cast<NodeId>(recording_.nodes.size());
  recording_.nodes.push_back(std::move(node));
  alias(output, id);
  return id;
}

void Recorder::alias(const c10::IValue& output, NodeId node) {
  const at::Tensor value = output.toTensor();
  tracked_[value.unsafeGetTensorImpl()] = node;
  stale_.erase(value.unsafeGetTensorImpl());
  alive_.push_back(value);
}

}  // namespace harness
