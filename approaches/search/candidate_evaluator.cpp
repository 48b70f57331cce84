#include "approaches/search/candidate_evaluator.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <set>

#include "approaches/search/evaluation_strategy.hpp"
#include "harness/core/error.hpp"
#include "harness/model/graph.hpp"
#include "harness/model/memory_class.hpp"

namespace harness::search {
namespace {

constexpr double kNoFloor = -std::numeric_limits<double>::infinity();
// With more touched classes than that, one product for all of them is faster than a pass for each.
constexpr size_t kMaxTouchedClasses = 16;

size_t touched_rows(const EvaluatorSetup& setup) {
  std::set<int64_t> rows;
  for (const WeightRef& weight : setup.weights) {
    rows.insert(weight.index / setup.network.parameters()[weight.parameter].value.size(1));
  }
  return rows.size();
}

// The layer whose few touched classes are all that changes, if the weights are such.
std::optional<TargetLayer> touched_layer(const EvaluatorSetup& setup) {
  const auto layer = only_dense_layer(setup.network, setup.weights);
  const bool last = layer && layer->node == setup.network.logits_node();
  const bool few = last && (touched_rows(setup) <= kMaxTouchedClasses || setup.objective.compat_softmax);
  return few ? layer : std::nullopt;
}

}  // namespace

std::optional<TargetLayer> only_dense_layer(const Network& network, const std::vector<WeightRef>& weights) {
  for (const TargetLayer& layer : target_layers(network)) {
    const bool all = std::all_of(weights.begin(), weights.end(),
                                 [&](const WeightRef& weight) { return weight.parameter == layer.weight; });
    if (all && !layer.convolution) return layer;
  }
  return std::nullopt;
}

at::Tensor logits_of(const Network& network, const SearchInputs& inputs, const Batching& batching) {
  std::vector<at::Tensor> parts;
  for (const at::Tensor& part : at::arange(inputs.size()).split(batching.batch)) {
    batching.stop.check();
    parts.push_back(network.logits(inputs.load(part)).to(at::kCPU, at::kFloat));
  }
  return at::cat(parts);
}

at::Tensor smallest_margin_first(const at::Tensor& logits, const at::Tensor& labels) {
  const at::Tensor label = labels.unsqueeze(1);
  const at::Tensor others = logits.scatter(1, label, -std::numeric_limits<float>::infinity());
  const at::Tensor margins = logits.gather(1, label).squeeze(1) - others.amax(1);
  return margins.argsort(/*stable=*/true, 0, /*descending=*/false);
}

std::vector<at::Tensor> narrow_slabs(const EvaluatorSetup& setup, const SearchInputs& inputs) {
  constexpr int64_t kFirst = 16;  // fewer fill no vector registers of the layers behind
  const at::Tensor order = smallest_margin_first(setup.known.logits, inputs.labels());
  std::vector<at::Tensor> slabs;
  int64_t size = setup.network.device().is_cpu() ? kFirst : setup.batching.batch;
  for (int64_t begin = 0; begin < order.numel(); begin += slabs.back().numel()) {
    const int64_t end = std::min(order.numel(), begin + std::min(size, setup.batching.batch));
    slabs.push_back(order.slice(0, begin, end).contiguous());
    size *= 2;
  }
  return slabs;
}

void write_classes(const at::Tensor& logits, const at::Tensor& numbers, std::span<int32_t> classes) {
  const at::Tensor found = logits.argmax(1).to(at::kCPU, at::kInt).contiguous();
  for (int64_t n = 0; n < found.numel(); ++n) {
    classes[static_cast<size_t>(numbers.const_data_ptr<int64_t>()[n])] = found.const_data_ptr<int32_t>()[n];
  }
}

int64_t candidates_together(const Network& network, NodeId first, int64_t images, int64_t wanted) {
  // Values of the widest activation of a batch of candidates. On the CPU more would neither be faster nor let
  // a search stop in time.
  const int64_t batch_values = values_together(network.device(), int64_t{1} << 24);
  const int64_t widest = graph::max_value_count(network.nodes(), first);
  return std::clamp<int64_t>(batch_values / (images * widest), 1, std::max<int64_t>(wanted, 1));
}

CandidateEvaluator::CandidateEvaluator(Setup setup)
    : setup_(std::move(setup)), inputs_(setup_.network, setup_.inputs) {
  if (setup_.weights.empty() || inputs_.size() == 0) interface_misuse("a search without weights or inputs");
  // without a softmax at the end the model's output is its logits
  setup_.objective.compat_softmax = setup_.objective.compat_softmax && setup_.network.ends_in_softmax();
  const at::NoGradGuard no_grad;
  if (const auto layer = touched_layer(setup_)) {
    strategy_ = touched_strategy(setup_, inputs_, *layer);
    original_ = judge(original_values());  // rounded as the candidates are that it is held against
  } else {
    if (!setup_.known.logits.defined())
      setup_.known.logits = logits_of(setup_.network, inputs_, setup_.batching);
    original_ = inputs_.blank();
    count(setup_.known.logits, at::arange(inputs_.size()), inputs_, setup_.objective, original_);
    const auto dense = only_dense_layer(setup_.network, setup_.weights);
    strategy_ = dense ? dense_strategy(setup_, inputs_, *dense) : suffix_strategy(setup_, inputs_);
  }
  setup_.known = {};  // the strategy has what it wants of it
}

CandidateEvaluator::~CandidateEvaluator() = default;

Verdict CandidateEvaluator::judge(std::span<const double> candidate) const {
  const at::NoGradGuard no_grad;
  Verdict verdict;
  strategy_->judge(candidate, std::span(&kNoFloor, 1), std::span(&verdict, 1), {});
  return verdict;
}

std::vector<int32_t> CandidateEvaluator::classify(std::span<const double> candidate) const {
  const at::NoGradGuard no_grad;
  std::vector<int32_t> classes(static_cast<size_t>(inputs_.size()));
  strategy_->classify(candidate, classes);
  return classes;
}

std::vector<double> CandidateEvaluator::original_values() const {
  const std::vector<float> values = read_weights(setup_.network, setup_.weights);
  return {values.begin(), values.end()};
}

void CandidateEvaluator::evaluate(std::span<const double> candidates, std::span<double> fitness) const {
  evaluate(candidates, std::vector<double>(fitness.size(), kNoFloor), fitness);
}

void CandidateEvaluator::evaluate(std::span<const double> candidates, std::span<const double> floors,
                                  std::span<double> fitness) const {
  std::vector<Verdict> verdicts(fitness.size());
  evaluate(candidates, floors, fitness, verdicts);
}

void CandidateEvaluator::evaluate(std::span<const double> candidates, std::span<const double> floors,
                                  std::span<double> fitness, std::span<Verdict> verdicts) const {
  const at::NoGradGuard no_grad;
  const size_t count = fitness.size(), size = setup_.weights.size();
  if (strategy_->parallel() && count > 1) {
    at::parallel_for(0, static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end) {
      const auto first = static_cast<size_t>(begin), some = static_cast<size_t>(end - begin);
      strategy_->judge(candidates.subspan(first * size, some * size), floors.subspan(first, some),
                       verdicts.subspan(first, some), setup_.stop);
    });
  } else {
    strategy_->judge(candidates, floors, verdicts, setup_.stop);
  }
  for (size_t k = 0; k < count; ++k) fitness[k] = setup_.objective.value(verdicts[k]);
}

int64_t CandidateEvaluator::together() const {
  constexpr int64_t kTogether = 16;
  // The sequence of populations is to be the same to the last bit on the CPU. A GPU's sums are so to rounding
  // alone, and a call that fills it is worth more.
  const bool gains = setup_.network.device().is_cpu()
                         ? strategy_->parallel() && strategy_->same_alone() && at::get_num_threads() > 1
                         : true;
  return gains ? kTogether : 1;
}

}  // namespace harness::search
