#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "harness/core/random.hpp"
#include "harness/core/stop.hpp"
#include "harness/data/dataset.hpp"
#include "harness/model/network.hpp"

namespace harness {

// At most `most` of `from`, drawn without replacement, ascending; all of them for 0.
std::vector<int64_t> first_of(const std::vector<int64_t>& from, int64_t maximum, RandomStream& stream);

// `count` of `from`, each drawn anew; none where there is nothing to draw from.
std::vector<int64_t> with_replacement(const std::vector<int64_t>& from, int64_t count, RandomStream& stream);

// Positions (ascending) of at most `most` inputs that the network classifies correctly, uniform over all such
// inputs of the split; all of them for 0. Judges no more of the split than that takes.
std::vector<int64_t> correct_inputs(const Network& network, const Split& split, int64_t maximum,
                                    const Batching& batching, RandomStream& stream);

// Lists of positions in checkpoints: int64, one dimension.
at::Tensor position_table(const std::vector<int64_t>& positions);
std::vector<int64_t> positions_of(const at::Tensor& table);

}  // namespace harness
