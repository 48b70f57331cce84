#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "approaches/batches.hpp"
#include "harness/model/execute.hpp"

namespace harness::routing {

// What a network computes in front of the first of some layers that train: for batches that come again and
// again it is the same each time, and kept for all of them, or for none where it would take more than the
// limit. In train mode batch norm in that part normalises each batch by itself, so its values are the same as
// well; its running averages move with every pass, which is made up for without computing the pass.
class KeptValues {
 public:
  struct Setup {
    const Network& network;     // must outlive it; only the layers, and averages, may change
    std::vector<NodeId> moved;  // the layers; at least one
    bool training = false;      // mode of the passes
    // In evaluation mode: running averages change between passes, so that nothing behind a batch norm is
    // kept.
    bool averages_move = false;
    int64_t inputs = 0;                           // of all batches together, images
    std::optional<int64_t> limit = std::nullopt;  // bytes; none: half of the device's cache_bytes()
  };
  explicit KeptValues(Setup setup);

  // Values that evaluate_part() takes as known for a pass of the inputs begin..end to the logits, or to a
  // node on the way; where nothing is kept, the network's input. In train mode running averages move as such
  // a pass to the logits would move them: where values are kept now, to rounding, else by the pass. `inputs`
  // is known by its address.
  std::map<NodeId, at::Tensor> known(const InputSet& inputs, int64_t begin, int64_t end);
  const Cut& cut() const { return cut_; }
  bool keeps() const { return keeps_; }
  int64_t bytes() const { return bytes_; }  // of all values, kept or not

 private:
  struct Entry {
    std::vector<at::Tensor> live;        // of cut().live
    std::vector<at::Tensor> statistics;  // of norms_: mean, unbiased variance, one after the other
  };
  struct Key {
    const InputSet* inputs;
    int64_t begin, end;
    auto operator<=>(const Key&) const = default;
  };
  Entry compute(const at::Tensor& x) const;
  void move_averages(const Entry& entry) const;

  Setup setup_;
  Cut cut_;
  std::vector<NodeId> norms_;  // batch norms in front of the cut with running averages that the logits need
  int64_t bytes_ = 0;
  bool keeps_ = false;
  std::map<Key, Entry> entries_;
};

// Share of the inputs that the network has right, by what is kept of them in evaluation mode.
double accuracy(const Network& network, KeptValues& kept, const InputSet& inputs, const Batching& batching);

}  // namespace harness::routing
