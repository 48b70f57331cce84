#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <span>
#include <string>
#include <vector>

#include "harness/approach/approach.hpp"

namespace harness {

// One weight, bias or other value of a network, with another value than the original's.
struct Edit {
  ParameterId parameter = -1;
  int64_t index = 0;  // flat, row-major
  float value = 0;
  bool operator==(const Edit&) const = default;
};

// A changed network as its difference to the original: ascending by parameter and index, each place at most
// once. Empty: the original itself.
using Edits = std::vector<Edit>;

// The values of a network that edits start from, on the CPU; of the moment it was made.
class OriginalValues {
 public:
  explicit OriginalValues(const Network& network);
  float at(ParameterId parameter, int64_t index) const { return data_[parameter][index]; }
  // The value that a network with `edits` has there.
  float at(const Edits& edits, ParameterId parameter, int64_t index) const;

 private:
  std::vector<at::Tensor> values_;  // contiguous float32
  std::vector<const float*> data_;
};

// `base` with `newer` (any order, each place at most once) written over it. What has the original's value
// again is no edit any more.
Edits with_edits(const Edits& base, Edits newer, const OriginalValues& original);

// Uniform crossover: the child takes each place that either parent changed from one of them, which may mean
// the original's value.
Edits cross(const Edits& a, const Edits& b, RandomStream& stream);

// The touched parameters as whole tensors on the network's device, for Network::suffix().
std::map<ParameterId, at::Tensor> overrides(const Network& network, const Edits& edits);
void apply_edits(Network& network, const Edits& edits);  // all other values keep their bits
Touched touched_by(const Network& network, const Edits& edits);

// Many individuals in four tensors: NAME.offsets, NAME.parameters, NAME.indices, NAME.values.
void save_edits(std::span<const Edits> individuals, const std::string& name,
                std::map<std::string, at::Tensor>& tensors);
std::vector<Edits> load_edits(const std::string& name, const std::map<std::string, at::Tensor>& tensors);

}  // namespace harness
