#pragma once

// Internal to harness/model: what a recording knows about tensors that come from the module, not from the
// input.
#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/api/module.h>

#include <functional>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "harness/model/network.hpp"

namespace harness {

// The tensors of a value: itself, or those inside lists, tuples and dictionaries.
void for_each_tensor(const c10::IValue& value, const std::function<void(const at::Tensor&)>& visit);

// The module's parameters and buffers in state_dict order, one entry for each piece of memory with its
// aliases. Values are the module's own tensors. Throws std::runtime_error where two overlap in part or in
// other shapes.
std::vector<Parameter> module_parameters(const torch::jit::Module& module);

// Follows the module's tensors through operators that the input has no part in: which tensor is a parameter,
// which is one transposed or repeated for every image, and which was computed from which parameters.
class ParameterTrace {
 public:
  explicit ParameterTrace(const std::vector<Parameter>& parameters) : parameters_(parameters) {}
  void learn(ParameterId id, const at::Tensor& value);

  ParameterId parameter(const at::Tensor& value) const;   // -1: is none
  ParameterId transposed(const at::Tensor& value) const;  // parameter whose transpose it is, -1: of none
  ParameterId repeated(const at::Tensor& value) const;    // parameter that broadcasts to it, -1: none
  // Parameters that the tensors of `values` are, or were computed from.
  std::set<ParameterId> sources(const std::vector<c10::IValue>& values) const;
  // Parameters and buffers whose memory `value` lies in.
  std::set<ParameterId> in_memory_of(const at::Tensor& value) const;
  // One operator was executed: its outputs come from what its arguments come from.
  void follow(const std::string& name, const std::vector<c10::IValue>& arguments,
              const std::vector<c10::IValue>& outputs);
  void derive(const at::Tensor& value, const std::set<ParameterId>& sources);

  bool any_trainable(const std::set<ParameterId>& ids) const;
  std::string names(const std::set<ParameterId>& ids) const;  // "conv.weight, fc.weight"

 private:
  const std::vector<Parameter>& parameters_;
  std::unordered_map<const c10::TensorImpl*, ParameterId> ids_, transposed_, repeated_;
  std::unordered_map<const c10::TensorImpl*, std::set<ParameterId>> derived_;
  std::vector<at::Tensor> alive_;  // identities must not be reused
};

}  // namespace harness
