#include "approaches/regions/sharpness.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace harness::regions {
namespace {

// The other inputs, ascending.
std::vector<int64_t> all_but(const std::vector<int64_t>& some, int64_t count) {
  std::vector<char> taken(static_cast<size_t>(count), 0);
  for (const int64_t position : some) taken[static_cast<size_t>(position)] = 1;
  std::vector<int64_t> others;
  for (int64_t k = 0; k < count; ++k) {
    if (taken[static_cast<size_t>(k)] == 0) others.push_back(k);
  }
  return others;
}

}  // namespace

bool at_least_as_good(const PatchVerdict& one, const PatchVerdict& other) {
  return one.broken != other.broken ? one.broken < other.broken : one.repaired >= other.repaired;
}

std::optional<PatchVerdict> judge_patches(const Network& original, const Network& patched,
                                          const DenseHead& head, const HeadInputs& inputs,
                                          const std::vector<int64_t>& promised, const Batching& batching,
                                          const std::optional<PatchVerdict>& to_beat) {
  const at::NoGradGuard no_grad;
  const Cut cut = patched.cut_before(original.logits_node() + 1);
  PatchVerdict verdict;
  const auto judge = [&](const at::Tensor& positions, bool are_promised) {
    std::vector<at::Tensor> live(cut.live.size());  // what else is live, the new nodes do not read
    for (size_t k = 0; k < live.size(); ++k) {
      const NodeId id = cut.live[k];
      const at::Tensor rows = id == head.cut                 ? inputs.features
                              : id == head.hidden[0].value   ? inputs.first
                              : id == original.logits_node() ? inputs.logits
                                                             : at::Tensor();
      if (rows.defined()) live[k] = rows.index_select(0, positions).to(patched.device());
    }
    const at::Tensor before = inputs.logits.index_select(0, positions),
                     after = patched.suffix(cut, live).cpu(),
                     label = inputs.labels.index_select(0, positions);
    const at::Tensor right = after.argmax(1).eq(label);
    if (are_promised) {
      verdict.repaired += right.sum().item<int64_t>();
    } else {
      verdict.broken += before.argmax(1).eq(label).logical_and(right.logical_not()).sum().item<int64_t>();
    }
    verdict.reached += before.ne(after).any(1).sum().item<int64_t>();
    verdict.judged += positions.numel();
  };
  for (const bool are_promised : {true, false}) {
    const std::vector<int64_t> now = are_promised ? promised : all_but(promised, inputs.size());
    const at::Tensor positions = at::tensor(now, at::kLong);
    for (int64_t begin = 0; begin < positions.numel(); begin += batching.batch) {
      if (batching.stop.requested()) return std::nullopt;
      // `repaired` is known by now, and `broken` only grows.
      if (!are_promised && to_beat && !at_least_as_good(verdict, *to_beat)) return verdict;
      judge(positions.slice(0, begin, std::min(begin + batching.batch, positions.numel())), are_promised);
    }
  }
  return verdict;
}

}  // namespace harness::regions
