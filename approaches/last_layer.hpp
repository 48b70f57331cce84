#pragma once

#include "approaches/dense_layers.hpp"
#include "approaches/locate/faults.hpp"
#include "harness/core/stop.hpp"

namespace harness {

// The last layer of approaches that change nothing before it (3M, NNR): a dense one with weights of its own
// that gives the logits. Nothing where the network ends otherwise.
std::optional<TargetLayer> last_dense_layer(const Network& network);

// The dense layer before it, where between both there is one ReLU (and dropout) that nothing else reads.
std::optional<TargetLayer> hidden_before(const Network& network, const TargetLayer& head);

// Why approaches on the last layer cannot be applied: operator, structure, no_faults.
std::optional<Refusal> refuse_without_last_layer(const FixRequest& request);

// What one pass over a split shows of the head. Positions as in the split; tensors on the CPU.
struct HeadView {
  locate::Judgement judgement;
  at::Tensor phi;     // float32 (N, features): what the head reads
  at::Tensor logits;  // float64 (N, classes), recomputed in double
};
HeadView view_head(const Network& network, const TargetLayer& head, const Split& split,
                   const Batching& batching);

// The misclassified inputs, nearest to their label first: by how far the strongest other class is above it.
std::vector<int64_t> faults_by_gap(const HeadView& view);

// Guarantees checked on the network itself, in float32.
struct HeadCheck {
  int64_t right = 0;      // inputs classified as labelled
  double min_margin = 0;  // least advantage of a label's logit over all others
};
HeadCheck check_inputs(const Network& network, const at::Tensor& inputs, const at::Tensor& labels,
                       const Batching& batching);

// What a fix does to the split that `before` shows the original on, by the fixed network itself. Logged as
// correct_before, correct_kept, faults and faults_fixed; not where the fix is stopped meanwhile.
void log_effect(const Network& fixed, const HeadView& before, const Split& split, FixContext& context);

// The logits (float64) of a head with another kernel (classes, features).
at::Tensor head_logits(const Network& network, const TargetLayer& head, const at::Tensor& phi,
                       const at::Tensor& kernel);

// Adds `change` (float64, shape of the kernel) to a layer's kernel, rounded to float32, and declares the
// weights whose value that has changed.
void add_to_kernel(Network& network, const TargetLayer& layer, const at::Tensor& change, Touched& touched);

}  // namespace harness
