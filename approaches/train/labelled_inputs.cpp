#include "approaches/train/labelled_inputs.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "approaches/localise/sampling.hpp"

namespace harness {

at::Tensor LabelledInputs::load(int64_t begin, int64_t end, at::Device device) const {
  const std::vector<int64_t> wanted(positions.begin() + begin, positions.begin() + end);
  return split->inputs(position_table(wanted)).to(device);
}

at::Tensor LabelledInputs::labels(int64_t begin, int64_t end, at::Device device) const {
  const std::vector<int64_t> wanted(positions.begin() + begin, positions.begin() + end);
  return split->labels().index_select(0, position_table(wanted)).to(device);
}

double accuracy(const Network& network, const LabelledInputs& inputs, const Batching& batching) {
  at::Tensor right = at::zeros({}, at::TensorOptions(at::kLong).device(network.device()));
  for (int64_t begin = 0; begin < inputs.size(); begin += batching.batch) {
    batching.stop.check();
    const int64_t end = std::min(inputs.size(), begin + batching.batch);
    const at::Tensor found = network.classify(inputs.load(begin, end, network.device()));
    right.add_((found == inputs.labels(begin, end, network.device())).sum());
  }
  return static_cast<double>(right.item<int64_t>()) /
         static_cast<double>(std::max<int64_t>(1, inputs.size()));
}

std::vector<int64_t> balanced_faults(const Judgement& judgement, int64_t maximum, RandomStream& stream) {
  const auto there = static_cast<int64_t>(judgement.wrong.size());
  if (maximum == 0 || there <= maximum) return judgement.wrong;
  const int64_t* const label = judgement.labels.const_data_ptr<int64_t>();
  std::map<int64_t, std::vector<int64_t>> of_class;
  for (const int64_t k : stream.permutation(there)) {
    const int64_t position = judgement.wrong[static_cast<size_t>(k)];
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

std::vector<int64_t> correct_of_each_class(const Network& network, const Split& split, int64_t quota,
                                           const Batching& batching, RandomStream& stream) {
  std::vector<int64_t> left(static_cast<size_t>(network.classes()), quota), picked;
  for (const at::Tensor& part : position_table(stream.permutation(split.size())).split(batching.batch)) {
    if (static_cast<int64_t>(picked.size()) == quota * network.classes()) break;
    batching.stop.check();
    const at::Tensor found = network.classify(split.inputs(part).to(network.device())).cpu();
    const at::Tensor labels = split.labels().index_select(0, part);
    for (int64_t k = 0; k < part.numel(); ++k) {
      const int64_t label = labels.const_data_ptr<int64_t>()[k];
      int64_t& open = left[static_cast<size_t>(label)];
      if (found.const_data_ptr<int64_t>()[k] != label || open == 0) continue;
      --open;
      picked.push_back(part.const_data_ptr<int64_t>()[k]);
    }
  }
  std::sort(picked.begin(), picked.end());
  return picked;
}

}  // namespace harness
