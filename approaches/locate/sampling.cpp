#include "approaches/locate/sampling.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "approaches/batches.hpp"
#include "approaches/locate/watched_pass.hpp"

namespace harness::locate {

std::vector<int64_t> draw_at_most(const std::vector<int64_t>& from, int64_t maximum, RandomStream& stream) {
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

std::vector<int64_t> draw_balanced(const std::vector<int64_t>& from, const at::Tensor& labels,
                                   int64_t maximum, RandomStream& stream) {
  const auto there = static_cast<int64_t>(from.size());
  if (maximum == 0 || there <= maximum) return from;
  const int64_t* const label = labels.const_data_ptr<int64_t>();
  std::map<int64_t, std::vector<int64_t>> of_class;
  for (const int64_t k : stream.permutation(there)) {
    const int64_t position = from[static_cast<size_t>(k)];
    of_class[label[position]].push_back(position);
  }
  std::vector<int64_t> picked;
  for (size_t turn = 0; static_cast<int64_t>(picked.size()) < maximum; ++turn) {
    for (const auto& [name, members] : of_class) {
      const bool enough = static_cast<int64_t>(picked.size()) == maximum;
      if (turn < members.size() && !enough) picked.push_back(members[turn]);
    }
  }
  std::sort(picked.begin(), picked.end());
  return picked;
}

std::vector<int64_t> balanced_faults(const Judgement& judgement, int64_t maximum, RandomStream& stream) {
  return draw_balanced(judgement.wrong, judgement.labels, maximum, stream);
}

std::vector<int64_t> correct_inputs(const Network& network, const Split& split, int64_t maximum,
                                    const Batching& batching, RandomStream& stream) {
  return correct_inputs(network, split, maximum, batching, stream, PassWatch{});
}

at::Tensor position_table(const std::vector<int64_t>& positions) {
  return at::tensor(positions, at::kLong);
}

std::vector<int64_t> positions_of(const at::Tensor& table) {
  return {table.const_data_ptr<int64_t>(), table.const_data_ptr<int64_t>() + table.numel()};
}

}  // namespace harness::locate
