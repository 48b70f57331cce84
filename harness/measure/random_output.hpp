#pragma once

#include <string>

#include "harness/model/network.hpp"
#include "harness/store/record.hpp"

namespace harness {

// "random_output": a model answers the same images the same way twice (within 1e-6 of its largest output),
// drawing no random numbers, and each of a few images alone and in a batch of `batch`, the working size, as
// among the others (within 1e-4, with TF32 1e-2, as other batch sizes take other kernels; what is imported
// was compared with TorchScript at that size). Not asked of outputs that are not finite, which have a status
// of their own.
Invariant check_random_output(const Network& network, const at::Tensor& sample, int64_t batch);
// The same check with what a whole pass has shown besides (Predictions::random).
Invariant with_pass(Invariant check, const std::string& random);

}  // namespace harness
