#pragma once

// Internal to harness/model.
#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include <set>

#include "harness/model/execute.hpp"
#include "harness/model/network.hpp"

namespace harness {

struct Network::Implementation {
  std::shared_ptr<const torch::jit::Module> original;  // as loaded, on the CPU, never changed
  std::shared_ptr<torch::jit::Module> black_box;       // own copy on `device`; only where not importable
  std::shared_ptr<torch::jit::Function> placed;  // its forward with constants on `device`; none on the CPU
  at::Tensor probe;                              // inputs on the CPU that it was seen to take
  std::string file;                              // it was read from
  ImportReport report;
  std::vector<Node> nodes;
  NodeId output = -1, logits = -1;
  bool ends_in_softmax = false, structure_changed = false;
  int64_t classes = 0;
  std::vector<int64_t> input_shape;
  std::vector<Parameter> parameters;
  std::set<ParameterId> transposed;  // dense weights that the file holds as (in,out): save() turns them back
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;

  void need_graph(const char* what) const;  // misuse where the model is a black box
  // Drops the graph; the module, with the values of now, is all that is left, on the CPU.
  void become_black_box(const std::string& unknown_operator, const std::string& detail,
                        const std::string& training_limitation);
  // Values of `wanted`, computed from `known` (values of nodes that are not computed again).
  std::vector<at::Tensor> evaluate(const std::vector<NodeId>& wanted, std::map<NodeId, at::Tensor> known,
                                   const std::map<ParameterId, at::Tensor>& overrides = {},
                                   const PassMode& mode = {}) const;
  // A parameter's value as the file holds it.
  at::Tensor stored(ParameterId id) const {
    const at::Tensor value = parameters.at(static_cast<size_t>(id)).value.detach();
    return transposed.count(id) > 0 ? value.t() : value;
  }
  at::Tensor run_black_box(const at::Tensor& x) const;
};

// TorchScript file to module on the CPU in evaluation mode; UserError for what is none.
torch::jit::Module load_script(const std::filesystem::path& file);
// The module's forward without graph optimisation; throws c10::Error as TorchScript does.
c10::IValue run_script(torch::jit::Module& module, const at::Tensor& x);
// Moves a black box with all constants of its code; UserError where something stays behind (placement.cpp).
void place_black_box(Network::Implementation& implementation, at::Device device);
c10::IValue run_placed(torch::jit::Function& forward, torch::jit::Module& module, const at::Tensor& x);
// Fills nodes, parameters and report of an implementation whose `original` is set.
void import_graph(Network::Implementation& implementation, const at::Tensor& sample);
// `count` images, those of `images` over and over.
at::Tensor repeated(const at::Tensor& images, int64_t count);
// Compares with TorchScript on one image, where the batch size is not baked, and on all of `images`, for
// which it answers `theirs` (undefined: it is run). Makes a black box of what differs.
void verify_import(Network::Implementation& implementation, const at::Tensor& images,
                   const at::Tensor& theirs);
// A module of its own on the CPU with the network's values, of the original structure or generated.
torch::jit::Module module_with_values(const Network::Implementation& implementation);
// The bytes of its TorchScript file.
std::string script_with_values(const Network::Implementation& implementation);
torch::jit::Module generate_script(const Network::Implementation& implementation);

}  // namespace harness
