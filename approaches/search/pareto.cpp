#include "approaches/search/pareto.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace harness::search {

std::vector<int64_t> pareto_front(std::span<const double> first, std::span<const double> second) {
  std::vector<int64_t> order;
  for (size_t k = 0; k < first.size(); ++k) {
    if (std::isnan(first[k]) || std::isnan(second[k])) continue;
    if (first[k] > 0 || second[k] > 0) order.push_back(static_cast<int64_t>(k));
  }
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    if (first[a] != first[b]) return first[a] > first[b];
    if (second[a] != second[b]) return second[a] > second[b];
    return a < b;
  });
  // In this order a point is dominated, or equal to one that is kept, unless its second score is a new
  // maximum.
  std::vector<int64_t> front;
  double best = -std::numeric_limits<double>::infinity();
  for (const int64_t k : order) {
    if (second[k] > best) {
      front.push_back(k);
      best = second[k];
    }
  }
  std::sort(front.begin(), front.end());
  return front;
}

}  // namespace harness::search
