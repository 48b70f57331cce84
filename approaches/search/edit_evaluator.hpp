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
// network. An individual runs from the first node it touches on, over the values of the nodes before; those
// that touch a single layer share its output, of which only the touched units are computed anew, and run
// through the rest of the network as one batch. Agrees with a network that carries the edits to float32
// rounding.
class EditEvaluator {
 public:
  struct Setup {
    const Network& network;  // must outlive the evaluator
    std::vector<InputSet> inputs;
    Objective objective;
    int64_t batch = 250;
    // Bytes for values in front of touched nodes, all of them together; those longest unused go first, and
    // what does not fit alone is computed anew each time.
    std::optional<int64_t> cache_limit = std::nullopt;  // none: half of the device's cache_bytes()
  };
  explicit EditEvaluator(Setup setup);

  // Which individuals are evaluated together; a function of the individuals and the network's shapes. Each of
  // the groups, given alone, is one group again.
  std::vector<std::vector<size_t>> groups(std::span<const Edits> individuals) const;
  // Verdicts on all inputs. Checked before every pass through the network, `stop` may end it: false, and no
  // verdict is valid.
  bool judge(std::span<const Edits> individuals, std::span<Verdict> verdicts, const Stop& stop = {});
  Verdict judge(const Edits& individual);
  // Logits (N, classes) of one individual, in the order of inputs(); CPU.
  at::Tensor logits(const Edits& individual);

  const SearchInputs& inputs() const { return inputs_; }
  int64_t cached_bytes() const { return cached_bytes_; }

 private:
  using Slab = std::vector<at::Tensor>;
  using SeeLogits = std::function<void(const at::Tensor& logits, const at::Tensor& numbers)>;
  struct Prefix {
    Cut cut;
    int64_t bytes = 0;        // of all slabs
    std::vector<Slab> slabs;  // empty: not cached
  };

  NodeId first_touched(const Edits& individual) const;
  bool one_layer(const Edits& individual, NodeId first) const;
  bool run(std::span<const Edits> group, const Stop& stop, const SeeLogits& see);
  Prefix& prefix_before(NodeId first);
  Slab live_values(const Prefix& prefix, size_t slab) const;
  void make_room(int64_t bytes);

  Setup setup_;
  SearchInputs inputs_;
  std::vector<at::Tensor> numbers_;  // of the inputs, one tensor a slab
  std::vector<int> readers_;         // nodes that read a parameter
  std::map<NodeId, Prefix> prefixes_;
  std::list<NodeId> used_;  // cached ones, the longest unused first
  int64_t cached_bytes_ = 0, cache_limit_ = 0;
};

}  // namespace harness::search
