#pragma once

#include <string>

#include "harness/model/network.hpp"
#include "harness/store/record.hpp"

namespace harness {

// "random_output": whether a model always answers the same images in the same way. The same batch twice may
// differ by 1e-6 of the largest output, and a black box must not draw random numbers. A few images alone may
// differ from the same images in a batch by 1e-4 (TF32: 1e-2), since other batch sizes use other kernels. A
// black box is also tried with `batch` images, the size it is used with; an imported network was compared
// with TorchScript at that size. Outputs that are not finite pass: there is another status for them.
Invariant check_random_output(const Network& network, const at::Tensor& sample, int64_t batch);
// The same check, failed as well where a whole pass found something (Predictions::random).
Invariant with_pass(Invariant check, const std::string& random);

}  // namespace harness
