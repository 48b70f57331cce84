#include <ATen/ATen.h>

#include "approaches/search/evaluation_strategy.hpp"
#include "approaches/search/touched_logits.hpp"

namespace harness::search {
namespace {

constexpr size_t kPolled = 64;  // candidates between two questions

// One pass over the inputs.
CandidateEvaluator::Known passed(const EvaluatorSetup& setup, const SearchInputs& inputs,
                                 const TargetLayer& layer) {
  std::vector<at::Tensor> units, logits;
  const auto to_host = [](const at::Tensor& tensor) { return tensor.to(at::kCPU, at::kFloat).contiguous(); };
  for (const at::Tensor& part : at::arange(inputs.size()).split(setup.batching.batch)) {
    setup.batching.stop.check();
    const auto values = setup.network.activations(inputs.load(part), {layer.input, layer.node});
    units.push_back(to_host(values[0]));
    logits.push_back(to_host(values[1]));
  }
  return {.logits = at::cat(logits), .units = at::cat(units)};
}

class TouchedStrategy final : public EvaluationStrategy {
 public:
  TouchedStrategy(const EvaluatorSetup& setup, const SearchInputs& inputs, const TargetLayer& layer)
      : size_(setup.weights.size()) {
    const CandidateEvaluator::Known known = setup.known.units.defined() && setup.known.logits.defined()
                                                ? setup.known
                                                : passed(setup, inputs, layer);
    const int64_t columns = setup.network.parameters()[layer.weight].value.size(1);
    const std::vector<float> values = read_weights(setup.network, setup.weights);
    std::vector<TouchedLogits::Weight> weights;
    for (size_t k = 0; k < values.size(); ++k) {
      const int64_t index = setup.weights[k].index;
      weights.push_back({index / columns, index % columns, values[k]});
    }
    kernel_ = std::make_unique<TouchedLogits>(known.units, known.logits, inputs.labels(), inputs.negative(),
                                              std::move(weights), setup.objective, inputs.blank());
  }

  const char* name() const override { return "touched_logits"; }
  bool parallel() const override { return true; }
  bool same_alone() const override { return true; }
  void judge(std::span<const double> candidates, std::span<const double> floors, std::span<Verdict> verdicts,
             const Stop& stop) const override {
    for (size_t k = 0; k < verdicts.size(); ++k) {
      if (k % kPolled == 0) stop.check();
      verdicts[k] = kernel_->judge(candidates.subspan(k * size_, size_), floors[k]);
    }
  }
  void classify(std::span<const double> candidate, std::span<int32_t> classes) const override {
    kernel_->classify(candidate, classes);
  }

 private:
  size_t size_;
  std::unique_ptr<TouchedLogits> kernel_;
};

}  // namespace

std::unique_ptr<EvaluationStrategy> touched_strategy(const EvaluatorSetup& setup, const SearchInputs& inputs,
                                                     const TargetLayer& layer) {
  return std::make_unique<TouchedStrategy>(setup, inputs, layer);
}

}  // namespace harness::search
