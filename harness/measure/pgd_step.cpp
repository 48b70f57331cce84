#include "harness/measure/pgd_step.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "harness/core/random.hpp"
#include "harness/model/fast/wide.hpp"

namespace harness {
namespace {

constexpr int64_t kGrain = 16384;

inline float clip(float value, float low, float high) {
  return std::min(std::max(value, low), high);
}

HARNESS_WIDE void ascend_values(float* __restrict__ value, const float* __restrict__ center,
                                const float* __restrict__ slope, int64_t count, float step, float epsilon,
                                float low, float high) {
  for (int64_t i = 0; i < count; ++i) {
    const float up = slope[i] > 0 ? step : 0.0f;
    const float direction = slope[i] < 0 ? -step : up;
    const float moved = clip(value[i] + direction - center[i], -epsilon, epsilon);
    value[i] = clip(center[i] + moved, low, high);
  }
}

}  // namespace

at::Tensor random_start(const at::Tensor& original, const int64_t* images, uint64_t seed, const PgdBox& box) {
  at::Tensor x = at::empty_like(original);
  if (x.numel() == 0) return x;
  const int64_t size = original.numel() / original.size(0);
  const auto low = static_cast<float>(box.low), high = static_cast<float>(box.high);
  const float* from = original.const_data_ptr<float>();
  float* to = x.mutable_data_ptr<float>();
  at::parallel_for(0, original.numel(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const double u =
          counter_uniform(seed, static_cast<uint64_t>(images[i / size]), static_cast<uint64_t>(i % size));
      to[i] = clip(from[i] + static_cast<float>(box.epsilon * (2 * u - 1)), low, high);
    }
  });
  return x;
}

void ascend(at::Tensor& x, const at::Tensor& original, const at::Tensor& gradient, const PgdBox& box) {
  if (!x.is_cpu()) {
    x.add_(gradient.sign(), box.step);
    x.sub_(original).clamp_(-box.epsilon, box.epsilon).add_(original).clamp_(box.low, box.high);
    return;
  }
  const auto step = static_cast<float>(box.step), epsilon = static_cast<float>(box.epsilon);
  const auto low = static_cast<float>(box.low), high = static_cast<float>(box.high);
  const float* center = original.const_data_ptr<float>();
  const float* slope = gradient.const_data_ptr<float>();
  float* value = x.mutable_data_ptr<float>();
  at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
    ascend_values(value + begin, center + begin, slope + begin, end - begin, step, epsilon, low, high);
  });
}

}  // namespace harness
