#include <ATen/ATen.h>

#include "harness/model/recorder.hpp"

// What a recording does with values that are not of the input: parameters, constants, memory that is written.
namespace harness {

// A value that comes of parameters becomes a constant of the recording: where approaches may change one of
// them, the import would not follow.
void Recorder::note_read(const std::string& name, const std::set<ParameterId>& ids) {
  if (trace_.any_trainable(ids)) {
    std::set<ParameterId> trainable;
    for (const ParameterId id : ids) {
      if (parameters_[static_cast<size_t>(id)].trainable) trainable.insert(id);
    }
    const std::string names = trace_.names(trainable);
    stop("weights computed in forward(): " + names,
         name +
             ": what an approach writes to them would not be followed; use them as they are, in the layer "
             "itself");
  }
  read_.insert(ids.begin(), ids.end());
}

// What writes into memory changes every tensor that lies there: parameters, constants and views of the same
// values.
void Recorder::note_writes(const c10::FunctionSchema& schema, const std::vector<c10::IValue>& arguments,
                           bool of_input) {
  if (!schema.is_mutable()) return;
  const std::set<ParameterId> from = trace_.sources(arguments);
  for (size_t i = 0; i < arguments.size() && i < schema.arguments().size(); ++i) {
    const auto* alias = schema.arguments()[i].alias_info();
    if (alias == nullptr || !alias->isWrite()) continue;
    for_each_tensor(arguments[i], [&](const at::Tensor& target) {
      if (arguments[i].isList()) return;  // the list changes, its tensors do not
      for (const ParameterId id : trace_.in_memory_of(target)) written_[id] = schema.name();
      for (const at::Tensor& other : alive_) {
        if (!other.is_alias_of(target)) continue;
        constant_ids_.erase(other.unsafeGetTensorImpl());
        if (!from.empty() && trace_.parameter(other) < 0) trace_.derive(other, from);
        const bool same = other.unsafeGetTensorImpl() == target.unsafeGetTensorImpl();
        if (!same && of_input) stale_[other.unsafeGetTensorImpl()] = schema.name();
      }
    });
  }
}

void Recorder::refuse_stale(const std::string& name, const std::vector<c10::IValue>& arguments) const {
  if (stale_.empty() || is_shape_query(name)) return;
  for (const c10::IValue& argument : arguments) {
    for_each_tensor(argument, [&](const at::Tensor& tensor) {
      const auto found = stale_.find(tensor.unsafeGetTensorImpl());
      if (found == stale_.end()) return;
      stop(found->second, "an in-place operation on a view of a value that is read afterwards (by " + name +
                              "); use the form that returns a new tensor");
    });
  }
}

// A buffer that forward() writes and reads makes each call compute something else. Counters that only count
// do not.
void Recorder::refuse_written_state() const {
  std::set<ParameterId> read = read_;
  std::set<ParameterId> averages;
  for (const Node& node : recording_.nodes) {
    read.insert(node.parameters.begin(), node.parameters.end());
    if (node.kind == NodeKind::batch_norm)
      averages.insert(node.parameters.begin() + 2, node.parameters.end());
  }
  for (const auto& [id, name] : written_) {
    if (read.count(id) == 0) continue;
    stop("differs from TorchScript", "forward() writes to " + trace_.names({id}) + " (" + name +
                                         "), so that each call computes something else; register no running "
                                         "state in forward(), and call model.eval() before tracing: running "
                                         "averages are for nn.BatchNorm2d with track_running_stats=True");
  }
  for (const ParameterId id : averages) {
    if (read_.count(id) == 0) continue;
    stop("running averages computed with in forward(): " + trace_.names({id}),
         "training moves them; leave them to nn.BatchNorm2d");
  }
}

ParameterId Recorder::add_constant(const at::Tensor& value) {
  recording_.constants.push_back(
      {"constant_" + std::to_string(recording_.constants.size()), value.detach().clone(), false, {}});
  return static_cast<ParameterId>(parameters_.size() + recording_.constants.size()) - 1;
}

ParameterId Recorder::parameter_of(const c10::IValue& value) {
  if (value.isNone() || !value.toTensor().defined()) return -1;
  const at::Tensor tensor = value.toTensor();
  if (const ParameterId id = trace_.parameter(tensor); id >= 0) {
    use_as(id, false);
    return id;
  }
  const auto known = constant_ids_.find(tensor.unsafeGetTensorImpl());
  if (known != constant_ids_.end()) return known->second;
  note_read("a weight made inside forward", trace_.sources({value}));
  alive_.push_back(tensor);
  return constant_ids_[tensor.unsafeGetTensorImpl()] = add_constant(tensor);
}

// One parameter cannot have both orientations.
void Recorder::use_as(ParameterId id, bool transposed) {
  if (id < 0 || id >= static_cast<ParameterId>(parameters_.size())) return;
  if (orientation_.emplace(id, transposed).first->second == transposed) return;
  stop("one weight in two orientations: " + trace_.names({id}),
       "it stands in two places, once as (out,in) and once as (in,out); give each place a weight of its own");
}

ParameterId Recorder::transposed_weight(const c10::IValue& value) {
  const at::Tensor tensor = value.toTensor();
  if (const ParameterId id = trace_.transposed(tensor); id >= 0) {
    use_as(id, false);
    return id;
  }
  const ParameterId id = trace_.parameter(tensor);
  if (id >= 0) {
    use_as(id, true);
    return id;
  }
  note_read("a weight made inside forward", trace_.sources({value}));
  return add_constant(tensor.t());
}

ParameterId Recorder::weight_of(const c10::IValue& value) {
  if (const ParameterId id = trace_.transposed(value.toTensor()); id >= 0) {
    use_as(id, true);
    return id;
  }
  return parameter_of(value);
}

ParameterId Recorder::operand(const c10::IValue& value, const at::Tensor& partner) {
  const at::Tensor tensor = value.toTensor();
  if (const ParameterId id = trace_.repeated(tensor); id >= 0) {
    const at::Tensor& once = parameters_[static_cast<size_t>(id)].value;
    if (at::infer_size(once.sizes(), partner.sizes()) == at::infer_size(tensor.sizes(), partner.sizes())) {
      use_as(id, false);
      return id;
    }
  }
  const bool per_image = tensor.dim() == partner.dim() && tensor.size(0) == batch_ && batch_ > 1;
  if (!per_image || trace_.parameter(tensor) >= 0) return parameter_of(value);
  note_read("a value made inside forward", trace_.sources({value}));
  const at::Tensor once = tensor.slice(0, 0, 1);
  return at::equal(once.expand_as(tensor), tensor) ? add_constant(once) : parameter_of(value);
}

ParameterId Recorder::operand_of_concat(const at::Tensor& value, int64_t dim) {
  if (value.size(0) != batch_)
    stop("aten::cat", "joins images with something else than values of each image");
  if (const ParameterId id = trace_.repeated(value); id >= 0) {
    const at::Tensor& once = parameters_[static_cast<size_t>(id)].value;
    const int64_t at = dim - (value.dim() - once.dim());
    if ((at < 0 ? 1 : once.size(at)) == value.size(dim)) {
      use_as(id, false);
      return id;
    }
  }
  note_read("aten::cat", trace_.sources({value}));
  at::Tensor once = value.slice(0, 0, 1);
  if (!at::equal(once.expand_as(value), value))
    stop("aten::cat", "a constant that is another one for each image");
  // Zeros and the like need no more than their number along the dimension.
  at::Tensor smallest = once;
  for (int64_t other = 1; other < value.dim(); ++other) {
    if (other != dim) smallest = smallest.slice(other, 0, 1);
  }
  return add_constant(at::equal(smallest.expand_as(once), once) ? smallest : once);
}

std::optional<double> Recorder::number_in(const at::Tensor& value) {
  if (trace_.parameter(value) >= 0) return std::nullopt;
  note_read("a number made inside forward", trace_.sources({value}));
  return value.item<double>();
}

}  // namespace harness
