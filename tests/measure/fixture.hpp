#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "harness/model/network.hpp"

namespace harness::testing {

// Small classifiers of 4 classes over (3,12,12) inputs, random weights, each with other kinds of layers;
// written as TorchScript by Python once per process. "opaque" has an operator the import does not know,
// "saturated" has logits so far apart that its softmax is exactly one-hot.
const std::vector<std::string>& model_names();
Network load_model(const std::string& name);
at::Tensor some_inputs(int64_t count, uint64_t seed);  // in [0, 1)

}  // namespace harness::testing
