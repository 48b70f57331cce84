#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace harness::search {

// Positions, ascending, of the points that no other point dominates when both scores are maximised. Of equal
// points only the first is kept. Points with a NaN, and points where neither score is above 0, are left out.
// O(n log n). Both spans have the same length.
std::vector<int64_t> pareto_front(std::span<const double> first, std::span<const double> second);

}  // namespace harness::search
