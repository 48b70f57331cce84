#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace harness {

// The mask of a dropout layer in one pass: 1/keep with probability `keep`, else 0; of the shape, type and
// device wanted. A counter-based hash without state: element e (row-major) is kept where number e of the
// splitmix64 sequence (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014) that
// starts at `stream` lies below `keep`. So it is the same on every device, whatever the number of threads,
// and nothing is copied.
at::Tensor dropout_mask(at::IntArrayRef shape, double keep, uint64_t stream,
                        const at::TensorOptions& options);

// The same by integer operations on tensors, which every device has; dropout_mask() takes a loop of its own
// on the CPU, where it is faster.
at::Tensor dropout_mask_by_tensors(at::IntArrayRef shape, double keep, uint64_t stream,
                                   const at::TensorOptions& options);

}  // namespace harness
