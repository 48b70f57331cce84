#pragma once

#include "harness/approach/approach.hpp"

namespace harness {

// Why a control cannot imitate `shadowed` here: a split that approach needs is not there, or its own adapt(),
// called with the parameters that the control hands on.
std::optional<Refusal> refuse_as_shadowed(const Approach& shadowed, const FixRequest& request);

}  // namespace harness
