#pragma once

#include <cstdint>
#include <vector>

#include "harness/data/dataset.hpp"
#include "harness/model/network.hpp"

namespace harness {

// Classes of a whole split, in split order, and what else one pass over it shows.
struct Predictions {
  std::vector<int32_t> classes;
  bool finite = true;        // all outputs
  double low = 0, high = 0;  // smallest and largest network input
};

// In batches of `batch` images, the network in its InferenceForm. Throws Interrupted (stop.hpp). `first` > 0:
// only that many images.
Predictions predict(const Network& network, const Split& split, int64_t batch, int64_t first = 0);

}  // namespace harness
