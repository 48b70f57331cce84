#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "harness/data/dataset.hpp"
#include "harness/model/network.hpp"

namespace harness {

// Classes of a whole split, in split order, and what else one pass over it shows.
struct Predictions {
  std::vector<int32_t> classes;
  std::string not_finite;    // the first place where NaN or an infinity sits, as a sentence; or empty
  std::string random;        // what shows that another pass may have other answers, as a sentence; or empty
  double low = 0, high = 0;  // smallest and largest network input
  bool finite() const { return not_finite.empty(); }
};

// In batches of `batch` images, the network in its InferenceForm. Hyperparameters and the values of all nodes
// have to be finite; of a black box the parameters and the output. A black box must not draw random numbers
// in the pass, and answers its first batch at the end as it did at the beginning. Throws Interrupted
// (stop.hpp). `first` > 0: only that many images.
Predictions predict(const Network& network, const Split& split, int64_t batch, int64_t first = 0);

}  // namespace harness
