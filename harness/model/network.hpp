#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/model/node.hpp"

namespace harness {

// A named tensor of the model. Parameters that share storage are one entry with several names. The
// weight of a dense layer is (out,in), also where the file holds it as (in,out).
struct Parameter {
  std::string name;                  // state_dict name; "constant_N" for constants of the graph
  at::Tensor value;                  // owned by its Network; never shared between networks
  bool trainable = true;             // false: buffers and constants
  std::vector<std::string> aliases;  // further state_dict names of the same storage
};

// What import found.
struct ImportReport {
  bool importable = false;
  // The first operator that is no layer node, "parameter NAMES" where forward() computes with those, "differs
  // from TorchScript"; empty when importable.
  std::string unknown_operator;
  std::string detail;               // one sentence: where and why; also what else the owner should know
  std::string training_limitation;  // empty, or why retraining approaches are UNADAPTABLE
  double max_abs_difference = 0;    // outputs, imported against TorchScript, the maximum seen
  double max_rel_difference = 0;    // the same over the largest absolute output of the batch
  int64_t baked_batch = 0;          // batch size a trace has baked into a flatten; 0: none
  bool follows_train = false;       // train() changes what the TorchScript computes (scripted, not traced)
};

// Where a network is divided: prefix = nodes before `first`, suffix = `first` and all after it. `live` are
// the prefix nodes that the suffix reads, residual and dense connections included, in ascending order.
struct Cut {
  NodeId first = 0;
  std::vector<NodeId> live;
};

enum class Initialiser { kaiming_uniform, glorot_uniform };  // PyTorch's and Keras' defaults

// A classifier as a graph of layer nodes over plain ATen operators, imported from TorchScript by recording
// one execution (README.md of this folder). Inputs are float32 (N,C,H,W), normalised, on device(); outputs
// are (N, classes). Move-only; fork() makes independent copies that share the graph. Models with an unknown
// operator load too, for black-box use: only output(), logits() (= output), their differentiable forms,
// probabilities(), classify(), not_finite(), digest(), fork(), to(), verify() and save() work then, anything
// else is a misuse. A black box gets a copy of its inputs, and a lone image twice (its answer for one is
// kept), for such models write to their input or squeeze the batch away.
class Network {
 public:
  // Reads TorchScript and records it on `sample` (n >= 2 inputs, CPU). Throws UserError for files that are no
  // TorchScript, for graphs that reach files or other processes, for half precision, quantised, one-logit and
  // tuple or dictionary models, naming the remedy. The import is verified on the CPU, at the sample's size.
  static Network load(const std::filesystem::path& file, const at::Tensor& sample);
  // Compares the output on device() with TorchScript's: of one image, and of `batch` images (those of
  // `sample` over and over); of a trace with a baked batch size, at that size alone. Where they are more than
  // 1e-4 of the largest output apart, or no numbers, the network is a black box from then on ("differs from
  // TorchScript"). For whoever moves a loaded network to a device or computes in batches; does nothing for
  // black boxes.
  void verify(const at::Tensor& sample, int64_t batch);
  Network(Network&&) noexcept;
  Network& operator=(Network&&) noexcept;
  ~Network();
  Network fork() const;
  // Black boxes go there with the constants of their code, and are tried on it: UserError where something in
  // them stays behind.
  void to(at::Device device);
  at::Device device() const;

  const ImportReport& report() const;
  bool importable() const { return report().importable; }
  const std::vector<Node>& nodes() const;
  NodeId output_node() const;
  NodeId logits_node() const;    // the output, or what a trailing softmax, log-softmax or sigmoid reads
  bool ends_in_softmax() const;  // a softmax: neither a log-softmax nor a sigmoid
  int64_t classes() const;
  const std::vector<int64_t>& input_shape() const;  // C,H,W

  // Evaluation mode, no autograd history. `x` may be a slab of any size; no slabbing inside.
  at::Tensor output(const at::Tensor& x) const;    // what the TorchScript model returns
  at::Tensor logits(const at::Tensor& x) const;    // before a trailing softmax, log-softmax or sigmoid
  at::Tensor classify(const at::Tensor& x) const;  // int64 (N), arg max of the output
  // One distribution an image: the output if it is a softmax, else the softmax of the logits. Scores of a
  // trailing sigmoid are none (each class is scored for itself): what it reads has their order.
  at::Tensor probabilities(const at::Tensor& x) const;
  // Values of `ids` (ascending). Autograd is recorded where x or a parameter requires grad and grad mode is
  // on.
  std::vector<at::Tensor> activations(const at::Tensor& x, const std::vector<NodeId>& ids) const;
  // As output() and logits(), with autograd; batch norm and dropout in evaluation mode. Also for black boxes.
  at::Tensor differentiable_output(const at::Tensor& x) const;
  at::Tensor differentiable_logits(const at::Tensor& x) const;
  // Logits with autograd in train mode: batch statistics, running averages updated, dropout by masks that
  // depend on the seed alone, the same on every device.
  at::Tensor training_logits(const at::Tensor& x, uint64_t seed);

  // Prefix and suffix.
  Cut cut_before(NodeId first) const;
  std::vector<at::Tensor> prefix(const Cut& cut, const at::Tensor& x) const;  // values of cut.live
  // Logits from live values; `overrides` replaces parameter values for this call (autograd as activations()).
  at::Tensor suffix(const Cut& cut, const std::vector<at::Tensor>& live,
                    const std::map<ParameterId, at::Tensor>& overrides = {}) const;
  // Logits (K,N,classes) of K candidate values (K, shape of the parameter) for one weight or bias of the
  // linear or conv node cut.first, in one batched product or grouped convolution and one run of the rest.
  at::Tensor candidate_logits(const Cut& cut, const std::vector<at::Tensor>& live, ParameterId parameter,
                              const at::Tensor& candidates) const;

  const std::vector<Parameter>& parameters() const;
  ParameterId find_parameter(const std::string& name) const;  // also by alias; -1 where there is none
  NodeId node_of(ParameterId parameter) const;                // first node that reads it; -1: none
  // Names of the parameters, buffers and constants that hold NaN or an infinity, black boxes included. A
  // buffer or constant of nothing but 0 and minus infinity is a mask and no fault.
  std::vector<std::string> not_finite() const;
  void set_parameter(ParameterId id, const at::Tensor& value);  // copies; shape must agree
  void require_grad(bool on);                                   // of all trainable parameters
  void reinitialise(Initialiser initialiser, uint64_t seed);  // weights, biases, batch norm and its averages
  std::string digest() const;  // of the graph and all parameter values; 32 hexadecimal digits

  // Structure changes: puts `node` (inputs: earlier nodes; parameters: ids of this network) right after
  // `position`; readers of `position` read the new node instead. New tensors come by add_parameter first.
  ParameterId add_parameter(const std::string& name, const at::Tensor& value, bool trainable);
  NodeId insert_after(NodeId position, Node node);

  // TorchScript that torch.jit.load in Python runs with equal logits; original parameter names, on the CPU.
  // Unchanged structure: a copy of the original module with the values; else generated `forward` text.
  void save(const std::filesystem::path& file) const;

  struct Implementation;  // of harness/model only

 private:
  explicit Network(std::unique_ptr<Implementation> implementation);
  std::unique_ptr<Implementation> self_;
};

}  // namespace harness
