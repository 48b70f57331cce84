#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "approaches/locate/faults.hpp"
#include "harness/core/random.hpp"
#include "harness/core/stop.hpp"
#include "harness/data/dataset.hpp"
#include "harness/model/network.hpp"

namespace harness::locate {

// At most `maximum` of `from`, drawn without replacement, ascending; all of them for 0.
std::vector<int64_t> draw_at_most(const std::vector<int64_t>& from, int64_t maximum, RandomStream& stream);

// `count` of `from`, each drawn anew; none where there is nothing to draw from.
std::vector<int64_t> with_replacement(const std::vector<int64_t>& from, int64_t count, RandomStream& stream);

// At most `maximum` of the positions `from`, ascending; all of them for 0. They are drawn one class after the
// other in turn, so that no class has more than one more than another that is not used up. `labels`: int64
// of all inputs, CPU, contiguous.
std::vector<int64_t> draw_balanced(const std::vector<int64_t>& from, const at::Tensor& labels,
                                   int64_t maximum, RandomStream& stream);

// At most `maximum` of the misclassified inputs, drawn in this way.
std::vector<int64_t> balanced_faults(const Judgement& judgement, int64_t maximum, RandomStream& stream);

// Positions (ascending) of at most `maximum` inputs that the network classifies correctly, uniform over all
// such inputs of the split; all of them for 0. Judges no more of the split than that takes.
std::vector<int64_t> correct_inputs(const Network& network, const Split& split, int64_t maximum,
                                    const Batching& batching, RandomStream& stream);

// Lists of positions in checkpoints: int64, one dimension.
at::Tensor position_table(const std::vector<int64_t>& positions);
std::vector<int64_t> positions_of(const at::Tensor& table);

}  // namespace harness::locate
