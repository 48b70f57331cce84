#pragma once

#include "harness/model/network.hpp"

namespace harness::testing {

// A network for the tiny data with what the tiny network lacks: batch norm behind convolutions, a residual
// sum, a grouped convolution, a kernel that two layers share, a dense layer behind another one. Untrained.
const Network& branched_network();

}  // namespace harness::testing
