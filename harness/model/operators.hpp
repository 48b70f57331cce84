#pragma once

// Internal to harness/model: what the entries of the operator table (operators.cpp) share.
#include <ATen/ATen.h>

#include "harness/model/recorder.hpp"

namespace harness::operators {

inline Node make(NodeKind kind, std::vector<NodeId> inputs, Attributes attributes = NoAttributes{},
                 std::vector<ParameterId> parameters = {}) {
  return {kind, "", std::move(inputs), std::move(parameters), std::move(attributes), {}};
}

inline void emit(Recorder& recorder, Call& call, Node node) {
  recorder.emit(std::move(node), call.outputs.at(0));
}

inline int64_t rank_of(const c10::IValue& value) {
  return value.toTensor().dim();
}

// A dimension counted from the front that is not the batch.
inline int64_t dimension(Recorder& recorder, const Call& call, int64_t dim, int64_t rank) {
  const int64_t counted = dim < 0 ? dim + rank : dim;
  if (counted == 0) recorder.stop(call.name(), "works across the images of a batch");
  return counted;
}

// Operators that join, divide and reorder values (shape_operators.cpp).
void concat(Recorder& recorder, Call& call);
void reshape(Recorder& recorder, Call& call);
void view(Recorder& recorder, Call& call);
void permute(Recorder& recorder, Call& call);
void slice(Recorder& recorder, Call& call);
void narrow(Recorder& recorder, Call& call);
void select(Recorder& recorder, Call& call);
void split(Recorder& recorder, Call& call);
void pad(Recorder& recorder, Call& call);

}  // namespace harness::operators
