#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <list>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "approaches/search/edits.hpp"
#include "approaches/search/inputs.hpp"
#include "harness/core/stop.hpp"

namespace harness::search {

// Judges individuals whose touched values differ from one to the next, on fixed inputs, without changing the
// network. Inputs that the network decides most narrowly come first: what an individual breaks shows at once,
// and one that is hopeless need not be judged on the rest. An individual runs from the first node it touches
// on, over the values of the nodes before; those that touch a single layer share its output, of which only
// the touched units are computed anew, and run through the rest of the network as one batch. Agrees with a
// network that carries the edits to float32 rounding.
class EditEvaluator {
 public:
  struct Setup {
    const Network& network;  // must outlive the evaluator
    std::vector<InputSet> inputs;
    Objective objective;
    Batching batching = 250;  // `stop` is checked while the evaluator is made; judge() gets its own
    // Bytes for values in front of touched nodes, all of them together; those longest unused go first, and
    // what does not fit alone is computed anew each time.
    std::optional<int64_t> cache_limit = std::nullopt;  // none: half of the device's cache_bytes()
  };
  explicit EditEvaluator(Setup setup);

  // Which individuals are evaluated together; a function of the individuals and the network's shapes. Each of
  // the groups, given alone, is one group again.
  std::vector<std::vector<size_t>> groups(std::span<const Edits> individuals) const;
  // Whether an individual need not be judged any further, from its verdict on some of the inputs (what is not
  // known counts as correct, and losses only grow). May be called from several threads.
  using Hopeless = std::function<bool(const Verdict&)>;
  // Verdicts on all inputs; on the first ones only where `hopeless` says so. It changes no bit of any other
  // verdict: individuals that share a product end together. Checked before every pass through the network,
  // `stop` may end it: false, and no verdict is valid.
  bool judge(std::span<const Edits> individuals, std::span<Verdict> verdicts, const Stop& stop = {},
             const Hopeless& hopeless = {});
  Verdict judge(const Edits& individual);
  // Logits (N, classes) of one individual, in the order of inputs(); CPU.
  at::Tensor logits(const Edits& individual);

  const SearchInputs& inputs() const { return inputs_; }
  int64_t cached_bytes() const { return cached_bytes_; }

 private:
  using Slab = std::vector<at::Tensor>;
  // Logits (n, classes) of the individual `k` of a group, CPU; false: no more of it is wanted. Called from
  // several threads for different individuals.
  using SeeLogits = std::function<bool(size_t k, const at::Tensor& logits, const at::Tensor& numbers)>;
  struct Prefix {
    Cut cut;
    int64_t bytes = 0;        // of all slabs
    std::vector<Slab> slabs;  // each empty until it is first needed; none at all: not cached
  };

  NodeId first_touched(const Edits& individual) const;
  bool one_layer(const Edits& individual, NodeId first) const;
  bool run(std::span<const Edits> group, const Stop& stop, const SeeLogits& see);
  Prefix& prefix_before(NodeId first);
  Slab live_values(Prefix& prefix, size_t slab) const;
  void make_room(int64_t bytes);

  Setup setup_;
  SearchInputs inputs_;
  std::vector<at::Tensor> numbers_;  // of the inputs, one tensor a slab, narrowly decided ones first
  std::vector<int> readers_;         // nodes that read a parameter
  std::map<NodeId, Prefix> prefixes_;
  std::list<NodeId> used_;  // cached ones, the longest unused first
  int64_t cached_bytes_ = 0, cache_limit_ = 0;
};

}  // namespace harness::search
