#pragma once

// Internal to harness/model: the only headers that see torch::jit are this one, script.hpp and their sources.
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "harness/model/network.hpp"

namespace harness {

// What one execution of a module left behind.
struct Recording {
  std::vector<Node> nodes;  // nodes[0] is the input; Node::shape as in network.hpp
  NodeId output = -1;
  std::vector<Parameter> constants;  // their ids follow those of the module's parameters
  std::string unknown_operator;      // empty: everything was recognised
  std::string detail;
  int64_t baked_batch = 0;
  bool saw_training = false;  // batch norm or dropout ran in training mode
};

// The module's parameters and buffers in state_dict order, one entry per storage with its aliases. Values are
// the module's own tensors. Throws std::runtime_error where one storage is seen in two shapes.
std::vector<Parameter> module_parameters(const torch::jit::Module& module);

// Runs forward() of `module` on a copy of `sample` and records it. The module's buffers may change: give a
// copy. Batch norm and dropout in training mode stop a recording of a module that is not in train mode.
Recording record(torch::jit::Module& module, const std::vector<Parameter>& parameters,
                 const at::Tensor& sample);

// Thrown inside a recording where it cannot go on.
struct RecordingStop {
  std::string operator_name, detail;
};

// One operator about to be recorded: arguments by schema name, outputs already computed.
class Call {
 public:
  Call(const c10::FunctionSchema& schema, std::string name, std::vector<c10::IValue> arguments)
      : schema_(schema), name_(std::move(name)), arguments_(std::move(arguments)) {}
  const std::string& name() const { return name_; }  // "aten::relu", also for relu_
  bool has(const char* argument) const;
  const c10::IValue& operator[](const char* argument) const;
  std::vector<int64_t> integers(const char* argument) const;  // an int list, or one int
  double number(const char* argument) const;
  const std::vector<c10::IValue>& arguments() const { return arguments_; }
  std::vector<c10::IValue> outputs;

 private:
  const c10::FunctionSchema& schema_;
  std::string name_;
  std::vector<c10::IValue> arguments_;
};

// The interpreter: walks the inlined graph, decides control flow concretely, turns operators on tracked
// tensors into nodes. Values are tracked by tensor identity, because in-place operators rebind every holder.
class Recorder {
 public:
  Recorder(const std::vector<Parameter>& parameters, const at::Tensor& sample, bool train_mode);
  void run(torch::jit::Module& module);
  Recording take() { return std::move(recording_); }

  // For the operator table (operators.cpp).
  int64_t batch() const { return batch_; }
  bool tracked(const c10::IValue& value) const;
  NodeId node_of(const c10::IValue& value) const;      // stops where it is not tracked
  ParameterId parameter_of(const c10::IValue& value);  // -1 for None; constants are added
  // Parameter of which `value` is the transpose, -1: of none.
  ParameterId transposed_parameter(const c10::IValue& value) const;
  // Appends a node whose value is `output` and tracks it; `output` is replaced by a copy where the operator
  // returned its own input (dropout in evaluation mode).
  NodeId emit(Node node, c10::IValue& output);
  void alias(const c10::IValue& output, NodeId node);
  void note_baked_batch(int64_t size) { recording_.baked_batch = size; }
  void note_training(const Call& call, bool training);
  [[noreturn]] void stop(const std::string& name, const std::string& detail) const;

 private:
  void run_block(torch::jit::Block* block);
  void run_node(torch::jit::Node* node);
  void run_if(torch::jit::Node* node);
  void run_loop(torch::jit::Node* node);
  bool run_structural(torch::jit::Node* node);
  void run_operator(torch::jit::Node* node);
  void record_operator(torch::jit::Node* node, std::vector<c10::IValue> arguments);
  void remember_derived(const std::string& name, const std::vector<c10::IValue>& arguments,
                        const std::vector<c10::IValue>& outputs);
  void refuse_write_to_view(const c10::FunctionSchema& schema,
                            const std::vector<c10::IValue>& arguments) const;
  bool any_tracked(const c10::IValue& value) const;
  std::string unique_name(const Node& node);

  const std::vector<Parameter>& parameters_;
  int64_t batch_;
  bool train_mode_;
  Recording recording_;
  std::unordered_map<const torch::jit::Value*, c10::IValue> environment_;
  std::unordered_map<const c10::TensorImpl*, NodeId> tracked_;
  std::unordered_map<const c10::TensorImpl*, ParameterId> parameter_ids_;
  std::unordered_map<const c10::TensorImpl*, ParameterId> transposed_;
  std::unordered_set<const c10::TensorImpl*> derived_;  // computed from trainable parameters
  std::vector<at::Tensor> alive_;                       // identities must not be reused
  std::set<std::string> names_;
  std::map<std::string, int> name_counts_;
};

// Turns `call` into nodes of `recorder` (operators.cpp). False: no layer operator of that name.
bool recognise(Recorder& recorder, Call& call);
// Operators that only ask for shape, type or identity of a tensor.
bool is_shape_query(const std::string& name);
// append, indexing and the like on a list: lists keep their identity, nothing is computed.
bool is_list_operator(const Call& call);

}  // namespace harness
