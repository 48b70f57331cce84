#pragma once

#include <optional>
#include <vector>

#include "approaches/weights.hpp"

namespace harness {

// The dense ones of target_layers(), in the order of the graph.
std::vector<TargetLayer> dense_layers(const Network& network);

// Why approaches that change dense layers alone cannot be applied: operator, structure, no_faults.
std::optional<Refusal> refuse_without_dense_layers(const FixRequest& request);

}  // namespace harness
