#include "approaches/train/augment.hpp"

#include <ATen/ATen.h>

#include "harness/core/error.hpp"

namespace harness::train {
namespace {

constexpr int64_t kShift = 4;  // pixels, the custom for 32x32 images

}  // namespace

at::Tensor augmented(const at::Tensor& images, const std::string& augmentation, RandomStream& stream) {
  if (augmentation == "none") return images;
  const bool crop = augmentation == "crop_flip";
  if (!crop && augmentation != "flip") interface_misuse("unknown augmentation: " + augmentation);
  const int64_t height = images.size(2), width = images.size(3);
  const at::Tensor source = crop ? at::constant_pad_nd(images, {kShift, kShift, kShift, kShift}) : images;
  at::Tensor result = at::empty_like(images);
  for (int64_t n = 0; n < images.size(0); ++n) {
    const int64_t top = crop ? stream.below(2 * kShift + 1) : 0,
                  left = crop ? stream.below(2 * kShift + 1) : 0;
    const at::Tensor window = source[n].slice(1, top, top + height).slice(2, left, left + width);
    result[n].copy_(stream.below(2) == 1 ? window.flip(2) : window);
  }
  return result;
}

}  // namespace harness::train
