#pragma once

// Internal to approaches/search: the ways of CandidateEvaluator.
#include <memory>
#include <optional>

#include "approaches/search/candidate_evaluator.hpp"

namespace harness::search {

using EvaluatorSetup = CandidateEvaluator::Setup;

// The dense layer that all weights are in, if there is one.
std::optional<TargetLayer> only_dense_layer(const Network& network, const std::vector<WeightRef>& weights);

// The dense and the suffix way need known logits.
std::unique_ptr<EvaluationStrategy> touched_strategy(const EvaluatorSetup& setup, const SearchInputs& inputs,
                                                     const TargetLayer& layer);
std::unique_ptr<EvaluationStrategy> dense_strategy(const EvaluatorSetup& setup, const SearchInputs& inputs,
                                                   const TargetLayer& layer);
std::unique_ptr<EvaluationStrategy> suffix_strategy(const EvaluatorSetup& setup, const SearchInputs& inputs);

// Of a pass over all inputs, which checks batching.stop: (N, classes), on the CPU, in the order of the
// inputs.
at::Tensor logits_of(const Network& network, const SearchInputs& inputs, const Batching& batching);

// Numbers 0..N-1 of the inputs, those the network decides most narrowly first: a candidate that breaks many
// shows it at once. Sorted by the label's logit less the largest other one. Logits (N, classes), labels (N),
// on the CPU.
at::Tensor smallest_margin_first(const at::Tensor& logits, const at::Tensor& labels);

// The same in slabs for the passes of candidates, of at most `batch`. On the CPU the first ones are small: a
// candidate that breaks many inputs is left after a few of them.
std::vector<at::Tensor> narrow_slabs(const EvaluatorSetup& setup, const SearchInputs& inputs);

// The classes that logits (n, classes) say, to the places `numbers` (int64, n, CPU) of `classes`.
void write_classes(const at::Tensor& logits, const at::Tensor& numbers, std::span<int32_t> classes);

// Values of one image of the widest node from `first` on, and candidates that may be evaluated together on
// `images` inputs.
int64_t candidates_together(const Network& network, NodeId first, int64_t images, int64_t wanted);

}  // namespace harness::search
