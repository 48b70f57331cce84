#include "approaches/localise/sampling.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace harness {

std::vector<int64_t> first_of(const std::vector<int64_t>& from, int64_t maximum, RandomStream& stream) {
  const auto there = static_cast<int64_t>(from.size());
  if (maximum == 0 || there <= maximum) return from;
  std::vector<int64_t> picked;
  for (const int64_t k : stream.sample(there, maximum)) picked.push_back(from[k]);
  std::sort(picked.begin(), picked.end());
  return picked;
}

std::vector<int64_t> with_replacement(const std::vector<int64_t>& from, int64_t count, RandomStream& stream) {
  std::vector<int64_t> drawn;
  if (from.empty()) return drawn;
  for (int64_t k = 0; k < count; ++k)
    drawn.push_back(from[static_cast<size_t>(stream.below(std::ssize(from)))]);
  return drawn;
}

std::vector<int64_t> correct_inputs(const Network& network, const Split& split, int64_t maximum,
                                    const Batching& batching, RandomStream& stream) {
  std::vector<int64_t> picked;
  const auto enough = [&] { return maximum > 0 && static_cast<int64_t>(picked.size()) == maximum; };
  for (const at::Tensor& part : position_table(stream.permutation(split.size())).split(batching.batch)) {
    batching.stop.check();
    const at::Tensor found = network.classify(split.inputs(part).to(network.device())).cpu();
    const at::Tensor right = part.masked_select(found == split.labels().index_select(0, part));
    for (const int64_t position : positions_of(right)) {
      if (!enough()) picked.push_back(position);
    }
    if (enough()) break;
  }
  std::sort(picked.begin(), picked.end());
  return picked;
}

at::Tensor position_table(const std::vector<int64_t>& positions) {
  return at::tensor(positions, at::kLong);
}

std::vector<int64_t> positions_of(const at::Tensor& table) {
  return {table.const_data_ptr<int64_t>(), table.const_data_ptr<int64_t>() + table.numel()};
}

}  // namespace harness
