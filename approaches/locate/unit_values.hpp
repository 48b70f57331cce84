#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "approaches/locate/watched_pass.hpp"
#include "approaches/search/inputs.hpp"
#include "approaches/search/suffix.hpp"
#include "approaches/weights.hpp"

namespace harness::locate {

// What interventions on the inputs of dense layers need to know of the network's answers: the range of every
// unit over all inputs, and for the negatives what the layers read and give. It is collected from passes that
// judge the inputs, so that the network does not run again, or by a pass of its own.
class UnitValues {
 public:
  // Both must outlive it.
  UnitValues(const Network& network, const std::vector<TargetLayer>& layers);

  // For passes that judge inputs. The values of the negatives are kept as long as they take no more than the
  // device's cache_bytes(); the others only widen the ranges.
  PassWatch watch_negatives();
  PassWatch watch_positives();

  // After these passes: the negatives are those with these numbers among all that were kept (ascending), with
  // these labels (int64 (n), CPU). False: too much was there to be kept, and collect() has to do it.
  bool take_negatives(const std::vector<int64_t>& numbers, const at::Tensor& labels);
  // A pass over all `inputs`, whatever was collected before.
  void collect(const search::SearchInputs& inputs, const Batching& batching);
  // A pass that widens the ranges.
  void widen(const InputSet& inputs, const Batching& batching);

  const Network& network() const { return network_; }
  const at::Tensor& labels() const { return labels_; }  // int64 (n), CPU, of the negatives
  struct Layer {
    TargetLayer target;
    search::Suffix rest;             // what runs behind the layer
    at::Tensor low = {}, high = {};  // (units), on the device
  };
  const std::vector<Layer>& layers() const { return layers_; }
  // (n, shape of the node), on the device: of a layer's input, the layer, or what its `rest` reads beside it.
  const at::Tensor& value(NodeId id) const { return kept_[index_of(id)]; }

 private:
  size_t index_of(NodeId id) const;
  void keep(const at::Tensor& rows, const std::vector<at::Tensor>& values);
  void widen_ranges(const at::Tensor& rows, const std::vector<at::Tensor>& values);

  const Network& network_;
  std::vector<Layer> layers_;
  std::vector<NodeId> ids_;                     // ascending
  std::vector<std::vector<at::Tensor>> parts_;  // of each node, one entry a batch
  std::vector<at::Tensor> kept_;                // of each node, of the negatives
  at::Tensor labels_;
  int64_t bytes_ = 0;
};

}  // namespace harness::locate
