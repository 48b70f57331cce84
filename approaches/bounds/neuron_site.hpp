#pragma once

#include <optional>
#include <variant>

#include "approaches/weights.hpp"

namespace harness::bounds {

// A layer of a network's dense head whose units can be edited one by one, and bounded from there to the
// logits (approaches/docs/VERE.md, What it needs). The head: what follows the last node whose value
// is not a flat vector.
struct NeuronSite {
  NodeId features = 0;  // flat vector that the layer reads; for check layer 0 the units themselves
  std::optional<TargetLayer> layer;  // whose units are edited; absent for check layer 0
  NodeId values = 0;                 // the units' values, activation included
  TargetLayer next;                  // dense layer that alone reads them, through dropout if any
  bool vgg_type = false;  // three dense layers, ReLU behind both hidden ones, which are equally wide
};

// The site at the `check_layer`-th dense layer of the head, from 1; 0: the features that the head begins
// with. Else why there is none, naming the layer or operator: operator, structure.
std::variant<NeuronSite, Refusal> neuron_site(const Network& network, int64_t check_layer);

}  // namespace harness::bounds
