#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <span>
#include <string>
#include <vector>

#include "approaches/weights.hpp"
#include "harness/core/random.hpp"

namespace harness::search {

// Edits here are a changed network as its difference to the original: other values than its own, ascending by
// parameter and index. None: the original itself.

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

// Many individuals in four tensors: NAME.offsets, NAME.parameters, NAME.indices, NAME.values.
void save_edits(std::span<const Edits> individuals, const std::string& name,
                std::map<std::string, at::Tensor>& tensors);
std::vector<Edits> load_edits(const std::string& name, const std::map<std::string, at::Tensor>& tensors);

}  // namespace harness::search
