#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "approaches/regions/dense_head.hpp"
#include "harness/core/stop.hpp"

namespace harness::regions {

// What the original makes of N inputs, from which a patched network goes on: a row for each, on the CPU.
struct HeadInputs {
  at::Tensor features, first, logits;  // at the head's cut, of its first hidden layer (before the activation)
  at::Tensor labels;                   // int64
  int64_t size() const { return labels.numel(); }
};

// How a patched network treats such inputs.
struct PatchVerdict {
  int64_t repaired = 0;  // of the promised faults, those that are right
  int64_t broken = 0;    // inputs that the original has right and the patched network wrong
  int64_t reached = 0;   // inputs whose logits change
  int64_t judged = 0;    // inputs looked at; fewer than there are where the verdict was clear before
};

// Fewer broken inputs, and of as many no fewer repaired faults.
bool at_least_as_good(const PatchVerdict& one, const PatchVerdict& other);

// One pass through what is new in `patched`, which with_patches() made of `original`: the `promised` faults
// (positions among the inputs) first, then all others. It ends where the verdict can no longer be at least as
// good as `to_beat`, so that a verdict which is that good is always one of all inputs. `batching.stop` is
// polled before each batch; nothing where it was requested.
std::optional<PatchVerdict> judge_patches(const Network& original, const Network& patched,
                                          const DenseHead& head, const HeadInputs& inputs,
                                          const std::vector<int64_t>& promised, const Batching& batching,
                                          const std::optional<PatchVerdict>& to_beat);

}  // namespace harness::regions
