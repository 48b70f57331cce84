#include <algorithm>

#include "harness/model/operators.hpp"

namespace harness::operators {

void concat(Recorder& recorder, Call& call) {
  const auto tensors = call["tensors"].toTensorVector();
  const int64_t dim = dimension(recorder, call, call["dim"].toInt(), tensors.at(0).dim());
  std::vector<NodeId> inputs;
  std::vector<ParameterId> parameters;
  DimsAttributes a{{dim}, false};
  for (size_t place = 0; place < tensors.size(); ++place) {
    if (recorder.tracked(tensors[place])) {
      inputs.push_back(recorder.node_of(tensors[place]));
    } else {
      parameters.push_back(recorder.operand_of_concat(tensors[place], dim));
      a.dims.push_back(static_cast<int64_t>(place));
    }
  }
  emit(recorder, call, make(NodeKind::concat, inputs, a, parameters));
}

// flatten, squeeze, unsqueeze, unflatten: one kind, by the shape that came out.
void reshape(Recorder& recorder, Call& call) {
  const auto shape = call.outputs.at(0).toTensor().sizes();
  const NodeId input = recorder.node_of(call["self"]);
  if (shape == call["self"].toTensor().sizes()) return recorder.alias(call.outputs[0], input);
  emit(recorder, call, make(NodeKind::reshape, {input}, ReshapeAttributes{shape.slice(1).vec()}));
}

// view and reshape compute their output here: a trace may have baked in the batch size it was made with.
void view(Recorder& recorder, Call& call) {
  const at::Tensor x = call["self"].toTensor();
  std::vector<int64_t> sizes = call.has("shape") ? call.integers("shape") : call.integers("size");
  const int64_t batch = recorder.batch();
  int64_t rest = 1;
  for (size_t i = 1; i < sizes.size(); ++i) rest *= sizes[i];
  const bool flattens =
      sizes.size() >= 2 && (rest * batch == x.numel() || (sizes.size() == 2 && sizes[1] == -1));
  if (flattens && sizes[0] != -1 && sizes[0] != batch) {
    recorder.note_baked_batch(sizes[0]);
    sizes[0] = batch;
  }
  try {
    call.outputs = {x.reshape(sizes)};
  } catch (const std::exception&) {
    recorder.stop(call.name(),
                  "fixed batch: the trace holds the size of the batch it was made with; export with "
                  "torch.jit.script, or write the reshape as flatten(x, 1)");
  }
  reshape(recorder, call);
}

void permute(Recorder& recorder, Call& call) {
  const int64_t rank = rank_of(call["self"]);
  DimsAttributes a;
  if (call.has("dims")) {
    for (const int64_t dim : call.integers("dims")) a.dims.push_back(dim < 0 ? dim + rank : dim);
  } else {
    for (int64_t dim = 0; dim < rank; ++dim) a.dims.push_back(dim);
    const auto counted = [&](int64_t dim) { return static_cast<size_t>(dim < 0 ? dim + rank : dim); };
    std::swap(a.dims[counted(call["dim0"].toInt())], a.dims[counted(call["dim1"].toInt())]);
  }
  if (a.dims[0] != 0) recorder.stop(call.name(), "moves the batch dimension");
  emit(recorder, call, make(NodeKind::permute, {recorder.node_of(call["self"])}, a));
}

namespace {

void emit_slice(Recorder& recorder, const c10::IValue& x, SliceAttributes a, c10::IValue& output) {
  recorder.emit(make(NodeKind::slice, {recorder.node_of(x)}, a), output);
}

}  // namespace

void slice(Recorder& recorder, Call& call) {
  const at::Tensor x = call["self"].toTensor(), y = call.outputs[0].toTensor();
  const int64_t dim = call["dim"].toInt() < 0 ? call["dim"].toInt() + x.dim() : call["dim"].toInt();
  if (x.sizes() == y.sizes()) return recorder.alias(call.outputs[0], recorder.node_of(call["self"]));
  if (dim == 0) recorder.stop(call.name(), "picks images of a batch");
  SliceAttributes a;
  a.dim = dim;
  a.step = call["step"].toInt();
  const int64_t start = call["start"].isNone() ? 0 : call["start"].toInt();
  a.begin = std::min(start < 0 ? start + x.size(dim) : start, x.size(dim));
  a.end = std::min(a.begin + y.size(dim) * a.step, x.size(dim));
  emit_slice(recorder, call["self"], a, call.outputs[0]);
}

void narrow(Recorder& recorder, Call& call) {
  SliceAttributes a;
  a.dim = dimension(recorder, call, call["dim"].toInt(), rank_of(call["self"]));
  a.begin = call["start"].toInt();
  a.end = a.begin + call["length"].toInt();
  emit_slice(recorder, call["self"], a, call.outputs[0]);
}

void select(Recorder& recorder, Call& call) {
  const at::Tensor x = call["self"].toTensor();
  SliceAttributes a;
  a.dim = dimension(recorder, call, call["dim"].toInt(), x.dim());
  a.begin = call["index"].toInt() < 0 ? call["index"].toInt() + x.size(a.dim) : call["index"].toInt();
  a.end = a.begin + 1;
  a.squeeze = true;
  emit_slice(recorder, call["self"], a, call.outputs[0]);
}

// chunk, split and unbind give a list: one slice node for each part.
void split(Recorder& recorder, Call& call) {
  const int64_t dim = dimension(recorder, call, call["dim"].toInt(), rank_of(call["self"]));
  const bool squeeze = call.name() == "aten::unbind";
  auto list = call.outputs[0].toTensorList();
  int64_t begin = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    c10::IValue part = list.get(i);
    const int64_t end = begin + (squeeze ? 1 : part.toTensor().size(dim));
    emit_slice(recorder, call["self"], {dim, begin, end, 1, squeeze}, part);
    list.set(i, part.toTensor());
    begin = end;
  }
}

void pad(Recorder& recorder, Call& call) {
  PadAttributes a;
  a.amounts = call.has("pad") ? call.integers("pad") : call.integers("padding");
  if (call.has("mode")) a.mode = call["mode"].toStringRef();
  if (call.name().find("reflection") != std::string::npos) a.mode = "reflect";
  if (call.name().find("replication") != std::string::npos) a.mode = "replicate";
  if (call.has("value") && !call["value"].isNone()) a.value = call.number("value");
  if (static_cast<int64_t>(a.amounts.size()) / 2 >= rank_of(call["self"]))
    recorder.stop(call.name(), "pads the batch");
  emit(recorder, call, make(NodeKind::pad, {recorder.node_of(call["self"])}, a));
}

}  // namespace harness::operators
