#pragma once

#include <string>
#include <vector>

#include "harness/config/config.hpp"
#include "harness/store/results.hpp"

namespace harness::cli {

// How the cells of a configuration stand in a results tree, as `status` shows them.
struct Standing {
  std::string counts;                // "9 cells: 6 done, 3 missing"
  std::vector<std::string> because;  // "MNIST/AR/1 stale: subject/attack/epsilon: 0.4, now 0.2"
  bool damaged = false;              // some record cannot be read
};
Standing standing_of(const Config& config, const ResultsTree& tree);

}  // namespace harness::cli
