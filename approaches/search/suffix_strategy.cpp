#include <ATen/ATen.h>

#include <algorithm>
#include <deque>
#include <mutex>

#include "approaches/search/evaluation_strategy.hpp"
#include "approaches/search/partial_pass.hpp"
#include "harness/model/memory_class.hpp"

namespace harness::search {
namespace {

// Bytes of the values that a pass keeps for all inputs.
int64_t kept_bytes(const PartialPass& pass, const SearchInputs& inputs) {
  return pass.values_per_input() * inputs.size() * int64_t{sizeof(float)};
}

class SuffixStrategy final : public EvaluationStrategy {
 public:
  SuffixStrategy(const EvaluatorSetup& setup, const SearchInputs& inputs)
      : network_(setup.network),
        inputs_(inputs),
        objective_(setup.objective),
        weights_(setup.weights),
        pass_(network_, weights_, /*narrow=*/true) {
    const int64_t limit = cache_bytes(network_.device());
    if (kept_bytes(pass_, inputs) > limit) pass_ = PartialPass(network_, weights_, /*narrow=*/false);
    kept_ = kept_bytes(pass_, inputs) <= limit;
    const bool single = std::all_of(weights_.begin(), weights_.end(), [&](const WeightRef& weight) {
      return weight.parameter == weights_[0].parameter;
    });
    // A GPU wants one large call; on the CPU a candidate's own pass, whose values stay in the cache, is
    // faster.
    if (single && !network_.device().is_cpu()) {
      cut_ = network_.cut_before(network_.node_of(weights_[0].parameter));
      together_ = candidates_together(network_, cut_.first, setup.batching.batch, 1 << 20);
    }
    for (const at::Tensor& part : narrow_slabs(setup, inputs)) slabs_.emplace_back().numbers = part;
    if (kept_ && !objective_.falls) keep_all(setup.batching.stop);
  }

  const char* name() const override { return "suffix"; }
  bool parallel() const override { return network_.device().is_cpu(); }

  void judge(std::span<const double> candidates, std::span<const double> floors, std::span<Verdict> verdicts,
             const Stop& stop) const override {
    const size_t size = weights_.size(), all = verdicts.size();
    const auto together = static_cast<size_t>(together_);
    for (size_t begin = 0; begin < all; begin += together) {
      const size_t count = std::min(together, all - begin);
      const auto some = candidates.subspan(begin * size, count * size);
      if (count == 1) {
        judge_one(some, floors[begin], verdicts[begin], stop);
      } else {
        judge_together(some, floors.subspan(begin, count), verdicts.subspan(begin, count), stop);
      }
    }
  }

  void classify(std::span<const double> candidate, std::span<int32_t> classes) const override {
    const auto changed = overrides(network_, edits_of(weights_, candidate));
    for (const Slab& slab : slabs_) {
      write_classes(pass_.logits(prepared(slab), changed), slab.numbers, classes);
    }
  }

 private:
  // Where every candidate goes through all inputs: by all threads, before candidates take one each.
  void keep_all(const Stop& stop) const {
    for (const Slab& slab : slabs_) {
      stop.check();
      together_ > 1 ? live_values(slab) : prepared(slab);
    }
  }

  // What is kept is made when a candidate first gets that far: most are left before the last inputs.
  struct Slab {
    at::Tensor numbers;  // int64 (n), CPU
    mutable std::once_flag prepared_once, live_once;
    mutable std::vector<at::Tensor> prepared, live;  // empty where nothing is kept
  };

  std::vector<at::Tensor> prepared(const Slab& slab) const {
    const auto make = [&] {
      return pass_.prepare(network_.activations(inputs_.load(slab.numbers), pass_.reads()));
    };
    if (!kept_) return make();
    std::call_once(slab.prepared_once, [&] { slab.prepared = make(); });
    return slab.prepared;
  }

  std::vector<at::Tensor> live_values(const Slab& slab) const {
    const auto make = [&] { return network_.prefix(cut_, inputs_.load(slab.numbers)); };
    if (!kept_) return make();
    std::call_once(slab.live_once, [&] { slab.live = make(); });
    return slab.live;
  }

  void judge_one(std::span<const double> candidate, double floor, Verdict& verdict, const Stop& stop) const {
    const auto changed = overrides(network_, edits_of(weights_, candidate));
    verdict = inputs_.blank();
    for (const Slab& slab : slabs_) {
      stop.check();
      count(pass_.logits(prepared(slab), changed), slab.numbers, inputs_, objective_, verdict);
      if (objective_.falls && objective_.value(verdict) < floor) return;
    }
  }

  // Candidates of a single kernel in one batch, less those that are known to lie below their floors.
  void judge_together(std::span<const double> candidates, std::span<const double> floors,
                      std::span<Verdict> verdicts, const Stop& stop) const {
    const ParameterId parameter = weights_[0].parameter;
    for (Verdict& verdict : verdicts) verdict = inputs_.blank();
    at::Tensor stacked = stacked_kernels(network_, weights_, candidates);
    std::vector<int64_t> left(verdicts.size());  // candidate of each kernel
    for (size_t k = 0; k < left.size(); ++k) left[k] = static_cast<int64_t>(k);
    for (const Slab& slab : slabs_) {
      stop.check();
      const at::Tensor logits =
          network_.candidate_logits(cut_, live_values(slab), parameter, stacked).to(at::kCPU);
      std::vector<int64_t> next, kernels;
      for (size_t k = 0; k < left.size(); ++k) {
        const auto candidate = static_cast<size_t>(left[k]);
        count(logits[static_cast<int64_t>(k)], slab.numbers, inputs_, objective_, verdicts[candidate]);
        if (objective_.falls && objective_.value(verdicts[candidate]) < floors[candidate]) continue;
        next.push_back(left[k]);
        kernels.push_back(static_cast<int64_t>(k));
      }
      if (next.empty()) return;
      if (next.size() == left.size()) continue;
      stacked = stacked.index_select(0, at::tensor(kernels, at::kLong).to(network_.device()));
      left = std::move(next);
    }
  }

  const Network& network_;
  const SearchInputs& inputs_;
  const Objective& objective_;
  const std::vector<WeightRef>& weights_;
  PartialPass pass_;
  Cut cut_;  // of candidates evaluated together
  int64_t together_ = 1;
  bool kept_ = false;  // values of the nodes that are read
  std::deque<Slab> slabs_;
};

}  // namespace

std::unique_ptr<EvaluationStrategy> suffix_strategy(const EvaluatorSetup& setup, const SearchInputs& inputs) {
  return std::make_unique<SuffixStrategy>(setup, inputs);
}

}  // namespace harness::search
