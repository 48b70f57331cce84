#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace harness {

// Where an attacked input may go: within epsilon of the original in every value, and within the bounds.
struct PgdBox {
  double epsilon = 0, step = 0;
  double low = 0, high = 1;
};

// original + U(-epsilon, epsilon), clipped to the bounds. `original` float32 on the CPU, contiguous; number k
// of its first dimension is image `images[k]`, which with seed and element decides the draw.
at::Tensor random_start(const at::Tensor& original, const int64_t* images, uint64_t seed, const PgdBox& box);

// x <- x + step * sign(gradient), back into the epsilon ball, clipped to the bounds; float32, contiguous, in
// one pass on the CPU. Rounds as the same operations of torch one after the other; 3 to 4 times as fast as
// they (build/bench_fast, one thread, 64 images).
void ascend(at::Tensor& x, const at::Tensor& original, const at::Tensor& gradient, const PgdBox& box);

}  // namespace harness
