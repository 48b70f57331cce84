#pragma once

#include <map>
#include <span>
#include <vector>

#include "harness/approach/approach.hpp"

namespace harness {

// One single weight of a network.
struct WeightRef {
  ParameterId parameter = -1;
  int64_t index = 0;  // flat, row-major
  bool operator==(const WeightRef&) const = default;
};

// One weight, bias or other value of a network, and the value that it gets instead of its own.
struct Edit {
  ParameterId parameter = -1;
  int64_t index = 0;  // flat, row-major
  float value = 0;
  bool operator==(const Edit&) const = default;
};
using Edits = std::vector<Edit>;  // each place at most once
// New values (rounded to float32) for `weights`, in their order.
Edits edits_of(const std::vector<WeightRef>& weights, std::span<const double> values);

// A layer whose kernel the neuron-level approaches may change (approaches/docs/AR.md, What it needs): an
// ungrouped 2-D convolution, or a linear layer on (N, features), with a trainable kernel that it alone reads.
struct TargetLayer {
  NodeId node = 0;
  NodeId input = 0;   // node whose value the layer reads
  NodeId behind = 0;  // the layer's output after its activation: its only reader if that is one, else `node`
  ParameterId weight = -1;
  bool convolution = false;
};

// In the order of the graph; empty for models that cannot be imported.
std::vector<TargetLayer> target_layers(const Network& network);

// Why the approaches that search single weights cannot be applied: operator, structure, no_faults.
std::optional<Refusal> refuse_without_targets(const FixRequest& request);

// `count` distinct weights, uniform over the kernels of all `layers`; all of them where there are fewer.
std::vector<WeightRef> random_weights(const Network& network, const std::vector<TargetLayer>& layers,
                                      int64_t count, RandomStream& stream);

// The parameters that `edits` touch, as whole new tensors on the network's device, for Network::suffix() and
// set_parameter(). One operation on the device a parameter, however many edits there are.
std::map<ParameterId, at::Tensor> overrides(const Network& network, const Edits& edits);
void apply_edits(Network& network, const Edits& edits);  // all other values keep their bits
Touched touched_by(const Network& network, const Edits& edits);

// The kernel of K candidates (K x weights, row-major) whose weights are all of one parameter: (K, its shape).
at::Tensor stacked_kernels(const Network& network, const std::vector<WeightRef>& weights,
                           std::span<const double> candidates);
// Their values, in the order of `weights`.
std::vector<float> read_weights(const Network& network, const std::vector<WeightRef>& weights);

// Weights in a checkpoint: int64 (n, 2), parameter and index; read back from any shape of it.
at::Tensor weight_table(const std::vector<WeightRef>& weights);
std::vector<WeightRef> weights_of(const at::Tensor& table);

}  // namespace harness
