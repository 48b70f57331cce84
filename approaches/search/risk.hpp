#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace harness::search {

// Inputs of class `label` taken for class `predicted`.
struct LabelPair {
  int64_t label = 0, predicted = 0;
};

// Mean recall over the classes that occur in `labels` (int64 (N), CPU), less `risk` times the mean rate of
// the errors `pairs`, each over the inputs of its own class (approaches/docs/DTR.md, Formulas: score).
double recall_less_risk(const at::Tensor& labels, const std::vector<int32_t>& predicted, int64_t classes,
                        const std::vector<LabelPair>& pairs, double risk);

}  // namespace harness::search
