#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "harness/core/random.hpp"

namespace harness::train {

// Images (N,C,H,W) as `augmentation` of a training recipe has them: none; flip (mirrored left to right with
// probability 1/2); crop_flip (moved by up to 4 pixels each way, 0 where nothing was, then flip).
at::Tensor augmented(const at::Tensor& images, const std::string& augmentation, RandomStream& stream);

}  // namespace harness::train
