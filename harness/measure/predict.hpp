#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "harness/data/dataset.hpp"
#include "harness/model/network.hpp"

namespace harness {

// Classes of a whole split, in split order, and what was seen in the pass over it.
struct Predictions {
  std::vector<int32_t> classes;
  std::string not_finite;    // a sentence with the first place of a NaN or an infinity; or empty
  std::string random;        // a sentence that says why another pass may answer otherwise; or empty
  double low = 0, high = 0;  // smallest and largest network input
  bool finite() const { return not_finite.empty(); }
};

// Classifies a split in batches of `batch` images, with the network's InferenceForm. Checks that all
// parameters and the values of all nodes are finite (of a black box: parameters and output), that a black box
// draws no random numbers in the pass, and that it answers its first batch at the end as at the beginning.
// `first` > 0: only that many images. Throws Interrupted (core/stop_signals.hpp).
Predictions predict(const Network& network, const Split& split, int64_t batch, int64_t first = 0);

}  // namespace harness
