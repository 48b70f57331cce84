#include "harness/model/parameter_trace.hpp"

#include <algorithm>
#include <stdexcept>

namespace harness {
namespace {

bool same_geometry(const at::Tensor& a, const at::Tensor& b) {
  return a.storage_offset() == b.storage_offset() && a.sizes() == b.sizes() && a.strides() == b.strides() &&
         a.scalar_type() == b.scalar_type();
}

struct Range {
  int64_t begin = 0, end = 0;  // bytes in the storage
  bool meets(const Range& other) const { return begin < other.end && other.begin < end; }
};

Range range_of(const at::Tensor& value) {
  int64_t last = value.storage_offset();
  for (int64_t dim = 0; dim < value.dim(); ++dim) last += (value.size(dim) - 1) * value.stride(dim);
  const auto bytes = static_cast<int64_t>(value.element_size());
  return {value.storage_offset() * bytes, (last + 1) * bytes};
}

bool shares_memory(const at::Tensor& a, const at::Tensor& b) {
  return a.numel() > 0 && b.numel() > 0 && a.has_storage() && b.has_storage() && a.is_alias_of(b) &&
         range_of(a).meets(range_of(b));
}

// Whether `value` is `parameter` broadcast: its dimensions, counted from the last one, are those of the
// parameter or repeat one of size 1.
bool is_broadcast(const at::Tensor& parameter, const at::Tensor& value) {
  const int64_t more = value.dim() - parameter.dim();
  if (more < 0) return false;
  for (int64_t dim = 0; dim < parameter.dim(); ++dim) {
    if (parameter.size(dim) != 1 && parameter.size(dim) != value.size(dim + more)) return false;
  }
  return true;
}

ParameterId found_in(const std::unordered_map<const c10::TensorImpl*, ParameterId>& ids,
                     const at::Tensor& value) {
  const auto found = ids.find(value.unsafeGetTensorImpl());
  return found == ids.end() ? -1 : found->second;
}

}  // namespace

void for_each_tensor(const c10::IValue& value, const std::function<void(const at::Tensor&)>& visit) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) visit(value.toTensor());
  } else if (value.isList()) {
    for (const c10::IValue& element : value.toListRef()) for_each_tensor(element, visit);
  } else if (value.isTuple()) {
    for (const c10::IValue& element : value.toTupleRef().elements()) for_each_tensor(element, visit);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) for_each_tensor(entry.value(), visit);
  }
}

std::vector<Parameter> module_parameters(const torch::jit::Module& module) {
  std::vector<Parameter> parameters;
  std::map<const void*, std::vector<size_t>> by_storage;
  const auto add = [&](const std::string& name, const at::Tensor& value, bool trainable) {
    if (value.numel() == 0 || !value.has_storage()) return parameters.push_back({name, value, trainable, {}});
    std::vector<size_t>& neighbours = by_storage[value.storage().data()];
    for (const size_t position : neighbours) {
      Parameter& other = parameters[position];
      if (same_geometry(other.value, value)) {
        other.aliases.push_back(name);
        other.trainable = other.trainable || trainable;
        return;
      }
      if (range_of(other.value).meets(range_of(value))) {
        throw std::runtime_error("parameters " + other.name + " and " + name +
                                 " share memory in different shapes");
      }
    }
    neighbours.push_back(parameters.size());
    parameters.push_back({name, value, trainable, {}});
  };
  for (const auto& item : module.named_parameters())
    add(item.name, item.value, item.value.is_floating_point());
  for (const auto& item : module.named_buffers()) add(item.name, item.value, false);
  return parameters;
}

void ParameterTrace::learn(ParameterId id, const at::Tensor& value) {
  ids_[value.unsafeGetTensorImpl()] = id;
  alive_.push_back(value);
}

ParameterId ParameterTrace::parameter(const at::Tensor& value) const {
  return found_in(ids_, value);
}
ParameterId ParameterTrace::transposed(const at::Tensor& value) const {
  return found_in(transposed_, value);
}
ParameterId ParameterTrace::repeated(const at::Tensor& value) const {
  return found_in(repeated_, value);
}

std::set<ParameterId> ParameterTrace::sources(const std::vector<c10::IValue>& values) const {
  std::set<ParameterId> found;
  for (const c10::IValue& value : values) {
    for_each_tensor(value, [&](const at::Tensor& tensor) {
      if (const ParameterId id = parameter(tensor); id >= 0) found.insert(id);
      const auto derived = derived_.find(tensor.unsafeGetTensorImpl());
      if (derived != derived_.end()) found.insert(derived->second.begin(), derived->second.end());
    });
  }
  return found;
}

std::set<ParameterId> ParameterTrace::in_memory_of(const at::Tensor& value) const {
  std::set<ParameterId> found;
  for (const at::Tensor& other : alive_) {
    if (const ParameterId id = parameter(other); id >= 0 && shares_memory(other, value)) found.insert(id);
  }
  return found;
}

void ParameterTrace::follow(const std::string& name, const std::vector<c10::IValue>& arguments,
                            const std::vector<c10::IValue>& outputs) {
  const std::set<ParameterId> from = sources(arguments);
  if (from.empty()) return;
  for (const c10::IValue& output : outputs) {
    for_each_tensor(output, [&](const at::Tensor& value) {
      if (parameter(value) < 0) derive(value, from);
    });
  }
  if (arguments.empty() || !arguments[0].isTensor() || outputs.size() != 1 || !outputs[0].isTensor()) return;
  const at::Tensor output = outputs[0].toTensor(), input = arguments[0].toTensor();
  const ParameterId id = parameter(input);
  if (id < 0 || parameter(output) >= 0) return;
  const bool transposes =
      name == "aten::t" || name == "aten::transpose" || name == "aten::numpy_T" || name == "aten::permute";
  const bool repeats = name == "aten::expand" || name == "aten::expand_as" || name == "aten::repeat";
  if (transposes && input.dim() == 2 && output.is_alias_of(input) && output.sizes() == input.t().sizes() &&
      output.strides() == input.t().strides()) {
    transposed_[output.unsafeGetTensorImpl()] = id;
  }
  if (repeats && is_broadcast(input, output)) repeated_[output.unsafeGetTensorImpl()] = id;
}

void ParameterTrace::derive(const at::Tensor& value, const std::set<ParameterId>& sources) {
  derived_[value.unsafeGetTensorImpl()].insert(sources.begin(), sources.end());
  alive_.push_back(value);
}

bool ParameterTrace::any_trainable(const std::set<ParameterId>& ids) const {
  return std::any_of(ids.begin(), ids.end(),
                     [&](ParameterId id) { return parameters_[static_cast<size_t>(id)].trainable; });
}

std::string ParameterTrace::names(const std::set<ParameterId>& ids) const {
  std::string text;
  for (const ParameterId id : ids)
    text += (text.empty() ? "" : ", ") + parameters_[static_cast<size_t>(id)].name;
  return text;
}

}  // namespace harness
