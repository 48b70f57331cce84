#include "approaches/search/risk.hpp"

#include <ATen/ATen.h>

#include <map>

namespace harness::search {

double recall_less_risk(const at::Tensor& labels, const std::vector<int32_t>& predicted, int64_t classes,
                        const std::vector<LabelPair>& pairs, double risk) {
  const auto label = labels.accessor<int64_t, 1>();
  std::vector<int64_t> inputs(static_cast<size_t>(classes), 0), right = inputs;
  std::map<std::pair<int64_t, int64_t>, int64_t> errors;
  for (size_t n = 0; n < predicted.size(); ++n) {
    const int64_t own = label[static_cast<int64_t>(n)];
    ++inputs[static_cast<size_t>(own)];
    if (predicted[n] == own) {
      ++right[static_cast<size_t>(own)];
    } else {
      ++errors[{own, predicted[n]}];
    }
  }
  double recall = 0, there = 0, rates = 0;
  for (size_t c = 0; c < inputs.size(); ++c) {
    if (inputs[c] == 0) continue;
    recall += static_cast<double>(right[c]) / static_cast<double>(inputs[c]);
    there += 1;
  }
  for (const LabelPair& pair : pairs) {
    const auto found = errors.find({pair.label, pair.predicted});
    if (found == errors.end()) continue;
    rates +=
        static_cast<double>(found->second) / static_cast<double>(inputs[static_cast<size_t>(pair.label)]);
  }
  return recall / there - risk * rates / static_cast<double>(pairs.size());
}

}  // namespace harness::search
