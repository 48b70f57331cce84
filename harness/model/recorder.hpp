#pragma once

// Internal to harness/model: the only headers that see torch::jit are this one, script.hpp and their sources.
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "harness/model/network.hpp"
#include "harness/model/parameter_trace.hpp"

namespace harness {

// What one execution of a module left behind.
struct Recording {
  std::vector<Node> nodes;  // nodes[0] is the input; Node::shape as in network.hpp
  NodeId output = -1;
  std::vector<Parameter> constants;  // their ids follow those of the module's parameters
  std::set<ParameterId> transposed;  // dense weights that the module holds as (in,out)
  std::string unknown_operator;      // empty: everything was recognised
  std::string detail;
  int64_t baked_batch = 0;
  bool saw_training = false;  // batch norm or dropout ran in training mode
};

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
  bool in_place() const { return schema_.name() != name_; }
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
  // Weight (out,in) of a dense layer that computes x * value: the parameter whose transpose `value` is, or
  // one that is stored as (in,out).
  ParameterId transposed_weight(const c10::IValue& value);
  ParameterId weight_of(const c10::IValue& value);  // of x * transpose(value), likewise
  // Operand of an elementwise operator beside `partner`; what is repeated for every image counts once.
  ParameterId operand(const c10::IValue& value, const at::Tensor& partner);
  // Operand of a concatenation along `dim` that is the same for every image, with one entry in dimension 0.
  ParameterId operand_of_concat(const at::Tensor& value, int64_t dim);
  // The number a tensor without dimensions holds; nothing where it is a parameter or buffer, which has an id.
  std::optional<double> number_in(const at::Tensor& value);
  // Appends a node whose value is `output` and tracks it; `output` is replaced by a copy where the operator
  // returned its own input (dropout in evaluation mode) and is not written as one in place.
  NodeId emit(Node node, c10::IValue& output, bool in_place = false);
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
  void run_untracked(torch::jit::Node* node, const std::vector<c10::IValue>& arguments);
  void note_read(const std::string& name, const std::set<ParameterId>& ids);
  // `of_input`: what is written comes of the input.
  void note_writes(const c10::FunctionSchema& schema, const std::vector<c10::IValue>& arguments,
                   bool of_input);
  void refuse_stale(const std::string& name, const std::vector<c10::IValue>& arguments) const;
  void refuse_written_state() const;
  ParameterId add_constant(const at::Tensor& value);
  void use_as(ParameterId id, bool transposed);
  bool any_tracked(const c10::IValue& value) const;
  std::string unique_name(const Node& node);

  const std::vector<Parameter>& parameters_;
  int64_t batch_;
  bool train_mode_;
  Recording recording_;
  std::unordered_map<const torch::jit::Value*, c10::IValue> environment_;
  std::unordered_map<const c10::TensorImpl*, NodeId> tracked_;
  ParameterTrace trace_;
  std::unordered_map<const c10::TensorImpl*, ParameterId> constant_ids_;
  std::map<ParameterId, bool> orientation_;     // of dense weights: whether they are used as (in,out)
  std::map<ParameterId, std::string> written_;  // by which operator
  std::set<ParameterId> read_;                  // values that became constants or numbers of the recording
  std::map<const c10::TensorImpl*, std::string>
      stale_;                      // an operator wrote to their memory through another tensor
  std::vector<at::Tensor> alive_;  // identities must not be reused
  std::set<std::string> names_;
  std::map<std::string, int> name_counts_;
};

// Turns `call` into nodes of `recorder` (operators.cpp). False: no layer operator of that name.
bool recognise(Recorder& recorder, Call& call);
// Operators that only read shape, type or identity of a tensor.
bool is_shape_query(const std::string& name);
// Operators whose result has the shape and type of an argument, and one number everywhere: zeros_like.
bool is_filled(const std::string& name);
// Operators that take from the input no more than shape or type, and their values from elsewhere: zeros_like,
// and expand_as of a parameter. Their result is none of the input.
bool ignores_values(const Recorder& recorder, const Call& call);
// Operators that say something and compute nothing.
bool is_message(const std::string& name);
// append, indexing and the like on a list: lists keep their identity, nothing is computed.
bool is_list_operator(const Call& call);

}  // namespace harness
