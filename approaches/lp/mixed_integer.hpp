#pragma once

#include "approaches/lp/linear_program.hpp"

namespace harness::lp {

// The problem with whole numbers demanded of `integers` (distinct columns), by COIN-OR CBC's branch and cut.
// Deterministic unless a limit ends it. `optimal`: x re-checked (integer columns are rounded, then rows and
// bounds hold) and the bound within 1e-6 of the objective. Where a limit ends it, x is the best point so far,
// or empty.
Solution solve_mixed_integer(const Problem& problem, std::span<const int> integers,
                             const Limits& limits = {});

}  // namespace harness::lp
