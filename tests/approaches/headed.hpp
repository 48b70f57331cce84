#pragma once

#include "harness/model/network.hpp"

namespace harness::testing {

// A convolution, flatten, and a dense head 16-12-9-4 that has all there is to fold and to join: batch norm,
// dropout, two linear layers in a row, leaky ReLU. Untrained.
const Network& headed_network();

// Networks whose end REASSURE cannot patch: "pooled" (global pooling and one dense layer), "convolved" (no
// dense layer), "sigmoid" (between dense layers), "skipping" (a sum right before the last layer).
const Network& headless_network(const std::string& name);

}  // namespace harness::testing
