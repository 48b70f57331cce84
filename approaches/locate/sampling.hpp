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

// Positions (ascending) of at most `maximum` of the misclassified inputs, drawn one class after the other in
// turn, so that no class has more than one more than another that is not used up; all of them for 0.
std::vector<int64_t> balanced_faults(const Judgement& judgement, int64_t maximum, RandomStream& stream);

// Positions (ascending) of at most `maximum` inputs that the network classifies correctly, uniform over all
// such inputs of the split; all of them for 0. Judges no more of the split than that takes.
std::vector<int64_t> correct_inputs(const Network& network, const Split& split, int64_t maximum,
                                    const Batching& batching, RandomStream& stream);

// Positions (ascending) of `quota` correctly classified inputs of each class, fewer where there are not so
// many; judges no more of the split than that takes.
std::vector<int64_t> correct_of_each_class(const Network& network, const Split& split, int64_t quota,
                                           const Batching& batching, RandomStream& stream);

// Lists of positions in checkpoints: int64, one dimension.
at::Tensor position_table(const std::vector<int64_t>& positions);
std::vector<int64_t> positions_of(const at::Tensor& table);

}  // namespace harness::locate
