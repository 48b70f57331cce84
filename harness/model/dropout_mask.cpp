#include "harness/model/dropout_mask.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/util/accumulate.h>

#include <cmath>

#include "harness/model/fast/wide.hpp"

namespace harness {
namespace {

// Of splitmix64: the increment, and the factors of its output function.
constexpr uint64_t kGolden = 0x9e3779b97f4a7c15, kFirst = 0xbf58476d1ce4e5b9, kSecond = 0x94d049bb133111eb;
constexpr int kBits = 53;         // of a hash that are compared: as many as a double has
constexpr int64_t kGrain = 8192;  // elements that are worth a thread

// Hashes, cut to kBits, below which an element is kept.
int64_t kept_below(double keep) {
  return static_cast<int64_t>(std::ceil(std::ldexp(keep, kBits)));
}

template <typename T>
inline __attribute__((always_inline)) void fill(T* mask, int64_t begin, int64_t end, uint64_t stream,
                                                int64_t below, T kept) {
  for (int64_t i = begin; i < end; ++i) {
    uint64_t hash = stream + (static_cast<uint64_t>(i) + 1) * kGolden;
    hash = (hash ^ (hash >> 30)) * kFirst;
    hash = (hash ^ (hash >> 27)) * kSecond;
    hash ^= hash >> 31;
    mask[i] = static_cast<int64_t>(hash >> (64 - kBits)) < below ? kept : T(0);
  }
}

HARNESS_WIDE void fill_floats(float* mask, int64_t begin, int64_t end, uint64_t stream, int64_t below,
                              float kept) {
  fill(mask, begin, end, stream, below, kept);
}
HARNESS_WIDE void fill_doubles(double* mask, int64_t begin, int64_t end, uint64_t stream, int64_t below,
                               double kept) {
  fill(mask, begin, end, stream, below, kept);
}

// hash ^ (hash >> by) of unsigned numbers: the shift of int64 tensors brings the sign along, which goes
// again.
at::Tensor& fold(at::Tensor& hash, int64_t by) {
  const int64_t unsigned_part = (int64_t{1} << (64 - by)) - 1;
  return hash.bitwise_xor_(hash.bitwise_right_shift(by).bitwise_and_(unsigned_part));
}

}  // namespace

at::Tensor dropout_mask_by_tensors(at::IntArrayRef shape, double keep, uint64_t stream,
                                   const at::TensorOptions& options) {
  const int64_t count = c10::multiply_integers(shape);
  // Products and sums of int64 tensors wrap around, on the CPU as on CUDA.
  at::Tensor hash = at::arange(1, count + 1, options.dtype(at::kLong));
  hash.mul_(static_cast<int64_t>(kGolden)).add_(static_cast<int64_t>(stream));
  fold(hash, 30).mul_(static_cast<int64_t>(kFirst));
  fold(hash, 27).mul_(static_cast<int64_t>(kSecond));
  fold(hash, 31);
  hash = hash.bitwise_right_shift(64 - kBits).bitwise_and_((int64_t{1} << kBits) - 1);
  // A product, as quotients of a number and a scalar round differently from device to device.
  return hash.lt(kept_below(keep)).to(options.dtype()).mul_(1 / keep).view(shape);
}

at::Tensor dropout_mask(at::IntArrayRef shape, double keep, uint64_t stream,
                        const at::TensorOptions& options) {
  const auto type = c10::typeMetaToScalarType(options.dtype());
  const bool loop = options.device().is_cpu() && (type == at::kFloat || type == at::kDouble);
  if (!loop) return dropout_mask_by_tensors(shape, keep, stream, options);
  at::Tensor mask = at::empty(shape, options);
  const int64_t below = kept_below(keep);
  at::parallel_for(0, mask.numel(), kGrain, [&](int64_t begin, int64_t end) {
    if (type == at::kFloat) {
      fill_floats(mask.mutable_data_ptr<float>(), begin, end, stream, below, static_cast<float>(1 / keep));
    } else {
      fill_doubles(mask.mutable_data_ptr<double>(), begin, end, stream, below, 1 / keep);
    }
  });
  return mask;
}

}  // namespace harness
