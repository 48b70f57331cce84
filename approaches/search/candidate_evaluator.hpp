#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "approaches/search/inputs.hpp"
#include "approaches/weights.hpp"
#include "harness/core/stop.hpp"

namespace harness::search {

// How candidates for some weights of a network are judged on fixed inputs, without changing the network.
// Const calls may come from several threads where `parallel()`.
class EvaluationStrategy {
 public:
  virtual ~EvaluationStrategy() = default;
  virtual const char* name() const = 0;
  virtual bool parallel() const { return false; }  // one candidate a thread; else many in one call
  // Whether a candidate's verdict has the same bits whatever else is judged in the call. Products of tensors
  // need not: within a thread of several they are computed by one, alone by all.
  virtual bool same_alone() const { return false; }
  // Candidates (K x weights, row-major), each rounded to float32. Where a candidate is known to lie below its
  // floor, its verdict may end early. `poll` may end all of it.
  virtual void judge(std::span<const double> candidates, std::span<const double> floors,
                     std::span<Verdict> verdicts, const Stop& stop) const = 0;
  // Class of every input for one candidate.
  virtual void classify(std::span<const double> candidate, std::span<int32_t> classes) const = 0;
};

// Evaluates candidate values for a few weights of a network on fixed inputs. Which way is a pure function of
// the touched weights and the network's shapes:
//   touched_logits  few classes of the last dense layer: only their logits are computed anew
//   dense           one dense layer: its outputs move by a product with the touched columns alone; the layers
//                   behind it run for many candidates in one batch
//   suffix          else: the network from the first touched node on, over cached values of the nodes before
//                   it, kept when they are first needed (computed anew for each candidate where they would
//                   take more than the device's cache_bytes()), of the first layers only what changes
//                   (PartialPass). On the CPU one candidate a thread; on a GPU candidates of a single kernel
//                   as stacked products or one grouped convolution
class CandidateEvaluator {
 public:
  // What an earlier pass has found of the inputs, in their order; what is undefined takes a pass of its own.
  struct Known {
    at::Tensor logits = {};  // (N, classes), float32, CPU: the network's own
    at::Tensor units = {};   // (N, units), float32, CPU: what the layer reads that makes the logits
  };
  struct Setup {
    const Network& network;
    std::vector<InputSet> inputs;
    std::vector<WeightRef> weights;  // at least one
    Objective objective;
    Batching batching = 250;  // while an evaluator is made; evaluate() goes through as many at once
    Stop stop = {};           // checked by evaluate(), from any thread
    Known known = {};
  };
  explicit CandidateEvaluator(Setup setup);
  ~CandidateEvaluator();
  CandidateEvaluator(const CandidateEvaluator&) = delete;
  CandidateEvaluator& operator=(const CandidateEvaluator&) = delete;

  // Fitness of K candidates; the signature of EvaluateCandidates. Several candidates are
  // evaluated in parallel or as one batch.
  void evaluate(std::span<const double> candidates, std::span<const double> floors,
                std::span<double> fitness) const;
  void evaluate(std::span<const double> candidates, std::span<double> fitness) const;  // without floors
  // The verdicts that the fitness comes from, too; of candidates below their floors they may be unfinished.
  void evaluate(std::span<const double> candidates, std::span<const double> floors, std::span<double> fitness,
                std::span<Verdict> verdicts) const;
  // Candidates to evaluate in one call where more are only a guess: a function of the way, the device and the
  // number of threads. 1 where more at once would not be faster, or would change the last bits of a fitness.
  int64_t together() const;
  Verdict judge(std::span<const double> candidate) const;
  double fitness(std::span<const double> candidate) const { return objective().value(judge(candidate)); }
  std::vector<int32_t> classify(std::span<const double> candidate) const;  // one class per input
  std::vector<double> original_values() const;  // of the weights: the network itself as a candidate
  const Verdict& original_verdict() const { return original_; }  // known from the start
  double original_fitness() const { return objective().value(original_); }
  const std::vector<WeightRef>& weights() const { return setup_.weights; }
  const SearchInputs& inputs() const { return inputs_; }
  const Objective& objective() const { return setup_.objective; }
  std::string strategy() const { return strategy_->name(); }

 private:
  Setup setup_;
  SearchInputs inputs_;
  std::unique_ptr<EvaluationStrategy> strategy_;
  Verdict original_;
};

}  // namespace harness::search
