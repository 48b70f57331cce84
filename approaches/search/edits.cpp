#include "approaches/search/edits.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace harness::search {
namespace {

bool before(const Edit& a, const Edit& b) {
  return a.parameter != b.parameter ? a.parameter < b.parameter : a.index < b.index;
}

// Calls `see(from a or null, from b or null)` for every place of either list, in order.
template <typename See>
void see_both(const Edits& a, const Edits& b, const See& see) {
  auto left = a.begin(), right = b.begin();
  while (left != a.end() || right != b.end()) {
    const bool in_a = left != a.end() && (right == b.end() || !before(*right, *left));
    const bool in_b = right != b.end() && (left == a.end() || !before(*left, *right));
    see(in_a ? &*left : nullptr, in_b ? &*right : nullptr);
    left += in_a;
    right += in_b;
  }
}

template <typename T>
const T* numbers(const std::map<std::string, at::Tensor>& tensors, const std::string& name) {
  return tensors.at(name).const_data_ptr<T>();
}

}  // namespace

OriginalValues::OriginalValues(const Network& network) {
  for (const Parameter& parameter : network.parameters()) {
    // Also buffers of integers have a place here, so that ids are positions; nobody edits them.
    values_.push_back(parameter.value.detach().to(at::kCPU, at::kFloat).clone(at::MemoryFormat::Contiguous));
    data_.push_back(values_.back().const_data_ptr<float>());
  }
}

float OriginalValues::at(const Edits& edits, ParameterId parameter, int64_t index) const {
  const Edit place{parameter, index, 0};
  const auto found = std::lower_bound(edits.begin(), edits.end(), place, before);
  return found != edits.end() && !before(place, *found) ? found->value : at(parameter, index);
}

Edits with_edits(const Edits& base, Edits newer, const OriginalValues& original) {
  std::sort(newer.begin(), newer.end(), before);
  Edits merged;
  merged.reserve(base.size() + newer.size());
  see_both(base, newer, [&](const Edit* old_one, const Edit* new_one) {
    const Edit& edit = new_one != nullptr ? *new_one : *old_one;
    if (edit.value != original.at(edit.parameter, edit.index)) merged.push_back(edit);
  });
  return merged;
}

Edits cross(const Edits& a, const Edits& b, RandomStream& stream) {
  Edits child;
  see_both(a, b, [&](const Edit* left, const Edit* right) {
    const Edit* taken = stream.bits() >> 63 ? left : right;
    if (taken != nullptr) child.push_back(*taken);
  });
  return child;
}

void save_edits(std::span<const Edits> individuals, const std::string& name,
                std::map<std::string, at::Tensor>& tensors) {
  std::vector<int64_t> offsets = {0}, parameters, indices;
  std::vector<float> values;
  for (const Edits& edits : individuals) {
    for (const Edit& edit : edits) {
      parameters.push_back(edit.parameter);
      indices.push_back(edit.index);
      values.push_back(edit.value);
    }
    offsets.push_back(static_cast<int64_t>(values.size()));
  }
  tensors[name + ".offsets"] = at::tensor(offsets, at::kLong);
  tensors[name + ".parameters"] = at::tensor(parameters, at::kLong);
  tensors[name + ".indices"] = at::tensor(indices, at::kLong);
  tensors[name + ".values"] = at::tensor(values, at::kFloat);
}

std::vector<Edits> load_edits(const std::string& name, const std::map<std::string, at::Tensor>& tensors) {
  const int64_t* const offset = numbers<int64_t>(tensors, name + ".offsets");
  const int64_t* const parameter = numbers<int64_t>(tensors, name + ".parameters");
  const int64_t* const index = numbers<int64_t>(tensors, name + ".indices");
  const float* const value = numbers<float>(tensors, name + ".values");
  std::vector<Edits> individuals(static_cast<size_t>(tensors.at(name + ".offsets").numel() - 1));
  for (size_t i = 0; i < individuals.size(); ++i) {
    for (int64_t k = offset[i]; k < offset[i + 1]; ++k) {
      individuals[i].push_back({static_cast<ParameterId>(parameter[k]), index[k], value[k]});
    }
  }
  return individuals;
}

}  // namespace harness::search
