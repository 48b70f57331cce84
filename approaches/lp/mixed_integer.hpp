#pragma once

#include "approaches/lp/linear_program.hpp"

namespace harness::lp {

// Solves the problem with whole numbers in the columns `integers` (distinct), by branch and cut of COIN-OR's
// CBC. Deterministic unless a limit ends it. `optimal` is checked: with the integer columns rounded, x meets
// rows and bounds, and the bound is within 1e-6 of the objective. Where a limit ends the solve, x is the best
// point so far, or empty.
Solution solve_mixed_integer(const Problem& problem, std::span<const int> integers,
                             const Limits& limits = {});

}  // namespace harness::lp
