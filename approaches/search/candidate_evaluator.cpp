#include "approaches/search/candidate_evaluator.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "approaches/search/touched_logits.hpp"

namespace harness {
namespace {

constexpr double kNoFloor = -std::numeric_limits<double>::infinity();
constexpr int64_t kBatchValues = int64_t{1} << 26;  // of the widest activation of a batch of candidates

// The inputs of the search, positives and negatives in one list.
struct Inputs {
  at::Tensor indices;   // int64 (N)
  at::Tensor labels;    // int64 (N)
  at::Tensor negative;  // bool (N)
};

Inputs gather(const CandidateEvaluator::Setup& setup) {
  std::vector<int64_t> indices = setup.positives;
  indices.insert(indices.end(), setup.negatives.begin(), setup.negatives.end());
  Inputs inputs;
  inputs.indices = at::tensor(indices, at::kLong);
  inputs.labels = setup.split.labels().index_select(0, inputs.indices);
  inputs.negative = at::arange(inputs.indices.size(0)) >= static_cast<int64_t>(setup.positives.size());
  return inputs;
}

at::Tensor load(const CandidateEvaluator::Setup& setup, const at::Tensor& indices) {
  return setup.split.inputs(indices).to(setup.network.device());
}

at::Tensor to_host(const at::Tensor& tensor) {
  return tensor.to(at::kCPU, at::kFloat).contiguous();
}

// The layer whose output is the logits, if all weights are in its kernel and no other node reads that.
const TargetLayer* only_last_layer(const Network& network, const std::vector<TargetLayer>& layers,
                                   const std::vector<WeightRef>& weights) {
  const auto last = std::find_if(layers.begin(), layers.end(), [&](const TargetLayer& layer) {
    return !layer.convolution && layer.node == network.logits_node();
  });
  if (last == layers.end()) return nullptr;
  const bool all = std::all_of(weights.begin(), weights.end(),
                               [&](const WeightRef& weight) { return weight.parameter == last->weight; });
  return all ? &*last : nullptr;
}

}  // namespace

class CandidateEvaluator::TouchedWay {
 public:
  TouchedWay(const Setup& setup, const TargetLayer& layer, const Fitness& fitness) {
    const Inputs inputs = gather(setup);
    std::vector<at::Tensor> units, logits;
    for (const at::Tensor& part : inputs.indices.split(setup.batch)) {
      const at::NoGradGuard no_grad;
      const std::vector<at::Tensor> values =
          setup.network.activations(load(setup, part), {layer.input, layer.node});
      units.push_back(to_host(values[0]));
      logits.push_back(to_host(values[1]));
    }
    const int64_t columns = setup.network.parameters()[layer.weight].value.size(1);
    const std::vector<float> values = read_weights(setup.network, setup.weights);
    std::vector<TouchedLogits::Weight> weights;
    for (size_t k = 0; k < values.size(); ++k) {
      const int64_t index = setup.weights[k].index;
      weights.push_back({index / columns, index % columns, values[k]});
    }
    kernel_ = std::make_unique<TouchedLogits>(at::cat(units), at::cat(logits), inputs.labels, inputs.negative,
                                              std::move(weights), fitness);
  }
  Verdict judge(std::span<const double> candidate, double floor) const {
    return kernel_->judge(candidate, floor);
  }

 private:
  std::unique_ptr<TouchedLogits> kernel_;
};

class CandidateEvaluator::SuffixWay {
 public:
  SuffixWay(const Setup& setup, const Fitness& fitness) : setup_(setup), fitness_(fitness) {
    const Network& network = setup.network;
    NodeId first = std::numeric_limits<NodeId>::max();
    for (const WeightRef& weight : setup.weights) first = std::min(first, network.node_of(weight.parameter));
    cut_ = network.cut_before(first);
    int64_t live = 0;
    for (const NodeId id : cut_.live) live += elements(network.nodes()[id]);
    for (size_t id = first; id < network.nodes().size(); ++id)
      widest_ = std::max(widest_, elements(network.nodes()[id]));
    single_ = std::all_of(setup.weights.begin(), setup.weights.end(), [&](const WeightRef& weight) {
      return weight.parameter == setup.weights[0].parameter;
    });
    make_slabs(live);
  }

  Verdict judge(std::span<const double> candidate, double floor) const {
    const at::NoGradGuard no_grad;
    const auto overrides = changed_kernels(setup_.network, setup_.weights, candidate);
    Verdict verdict;
    for (const Slab& slab : slabs_) {
      count(setup_.network.suffix(cut_, live_values(slab), overrides), slab, verdict);
      if (fitness_.value(verdict) < floor) break;
    }
    return verdict;
  }

  // Candidates of a single kernel in batches of as many as keep the widest activation within kBatchValues.
  void evaluate_batch(std::span<const double> candidates, std::span<double> fitness) const {
    const at::NoGradGuard no_grad;
    const int64_t size = static_cast<int64_t>(setup_.weights.size()),
                  all = static_cast<int64_t>(fitness.size());
    const int64_t together = std::clamp<int64_t>(kBatchValues / (setup_.batch * widest_), 1, all);
    const ParameterId parameter = setup_.weights[0].parameter;
    for (int64_t begin = 0; begin < all; begin += together) {
      const int64_t count_here = std::min(together, all - begin);
      std::vector<at::Tensor> values;
      for (int64_t k = begin; k < begin + count_here; ++k) {
        const auto kernels =
            changed_kernels(setup_.network, setup_.weights, candidates.subspan(k * size, size));
        values.push_back(kernels.at(parameter));
      }
      const at::Tensor stacked = at::stack(values);
      std::vector<Verdict> verdicts(count_here);
      for (const Slab& slab : slabs_) {
        const at::Tensor logits =
            setup_.network.candidate_logits(cut_, live_values(slab), parameter, stacked);
        for (int64_t k = 0; k < count_here; ++k) count(logits[k], slab, verdicts[k]);
      }
      for (int64_t k = 0; k < count_here; ++k) fitness[begin + k] = fitness_.value(verdicts[k]);
    }
  }
  bool single_kernel() const { return single_; }

 private:
  struct Slab {
    Inputs inputs;
    std::vector<at::Tensor> live;  // empty where nothing is cached
  };

  static int64_t elements(const Node& node) {
    return std::accumulate(node.shape.begin(), node.shape.end(), int64_t{1}, std::multiplies<>());
  }

  // Inputs that the original decides most narrowly come first: candidates that break many show it at once.
  void make_slabs(int64_t live_elements) {
    const Inputs all = gather(setup_);
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> margins;
    const auto parts = all.indices.split(setup_.batch), labels = all.labels.split(setup_.batch);
    for (size_t p = 0; p < parts.size(); ++p) {
      at::Tensor logits = setup_.network.logits(load(setup_, parts[p])).cpu();
      const at::Tensor own = logits.gather(1, labels[p].unsqueeze(1)).squeeze(1);
      logits = logits.scatter(1, labels[p].unsqueeze(1), -std::numeric_limits<float>::infinity());
      margins.push_back(own - logits.amax(1));
    }
    const at::Tensor order = at::cat(margins).argsort(/*stable=*/true, 0, /*descending=*/false);
    const bool cached = all.indices.size(0) * live_elements * int64_t{sizeof(float)} <= kCacheLimit;
    for (const at::Tensor& part : order.split(setup_.batch)) {
      Slab slab;
      slab.inputs = {all.indices.index_select(0, part), all.labels.index_select(0, part),
                     all.negative.index_select(0, part)};
      if (cached) slab.live = live_values(slab);
      slabs_.push_back(std::move(slab));
    }
  }

  std::vector<at::Tensor> live_values(const Slab& slab) const {
    return slab.live.empty() ? setup_.network.prefix(cut_, load(setup_, slab.inputs.indices)) : slab.live;
  }

  void count(const at::Tensor& slab_logits, const Slab& slab, Verdict& verdict) const {
    const at::Tensor logits = to_host(slab_logits);
    const auto labels = slab.inputs.labels.accessor<int64_t, 1>();
    const auto negative = slab.inputs.negative.accessor<bool, 1>();
    const int64_t classes = logits.size(1);
    std::vector<float> scratch(classes);
    for (int64_t n = 0; n < logits.size(0); ++n) {
      const float* const row = logits.data_ptr<float>() + n * classes;
      const float own = row[labels[n]];
      bool above = true;
      for (int64_t c = 0; c < classes; ++c) above &= c == labels[n] || own > row[c];
      if (!above) {
        count_miss(verdict, negative[n], fitness_.cross_entropy(row, classes, labels[n], scratch.data()));
      }
    }
  }

  Setup setup_;
  Fitness fitness_;
  Cut cut_;
  bool single_ = false;
  int64_t widest_ = 1;
  std::vector<Slab> slabs_;
};

CandidateEvaluator::CandidateEvaluator(const Setup& setup)
    : fitness_{.positives = static_cast<int64_t>(setup.positives.size()),
               .negatives = static_cast<int64_t>(setup.negatives.size()),
               .alpha = setup.alpha,
               // without a softmax at the end the model's output is its logits
               .compat_softmax = setup.compat_softmax && setup.network.ends_in_softmax()} {
  const std::vector<TargetLayer> layers = target_layers(setup.network);
  if (const TargetLayer* last = only_last_layer(setup.network, layers, setup.weights)) {
    touched_ = std::make_unique<TouchedWay>(setup, *last, fitness_);
  } else {
    suffix_ = std::make_unique<SuffixWay>(setup, fitness_);
  }
}

CandidateEvaluator::~CandidateEvaluator() = default;

const Fitness& CandidateEvaluator::fitness() const {
  return fitness_;
}

std::string CandidateEvaluator::way() const {
  return touched_ ? "touched_logits" : "suffix";
}

Verdict CandidateEvaluator::judge(std::span<const double> candidate) const {
  return touched_ ? touched_->judge(candidate, kNoFloor) : suffix_->judge(candidate, kNoFloor);
}

void CandidateEvaluator::evaluate(std::span<const double> candidates, std::span<const double> floors,
                                  std::span<double> fitness) const {
  const size_t count = fitness.size(), size = candidates.size() / std::max<size_t>(count, 1);
  if (suffix_ && suffix_->single_kernel() && count > 1) return suffix_->evaluate_batch(candidates, fitness);
  const auto one = [&](size_t k) {
    const std::span<const double> candidate = candidates.subspan(k * size, size);
    fitness[k] = fitness_.value(touched_ ? touched_->judge(candidate, floors[k])
                                         : suffix_->judge(candidate, floors[k]));
  };
  if (touched_ && count > 1) {
    at::parallel_for(0, static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) one(k);
    });
  } else {
    for (size_t k = 0; k < count; ++k) one(k);
  }
}

}  // namespace harness
