#include "harness/model/fast/conv_pool.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "harness/model/fast/wide.hpp"

namespace harness {
namespace {

constexpr int64_t kVector = 8;

// Column maxima of one window's rows [first, last) of a plane: the value and its position row * width +
// column.
HARNESS_WIDE void column_maxima(const float* plane, int64_t width, int64_t first, int64_t last,
                                float* __restrict__ best, int32_t* __restrict__ where) {
  for (int64_t w = 0; w < width; ++w) {
    best[w] = plane[first * width + w];
    where[w] = static_cast<int32_t>(first * width + w);
  }
  for (int64_t h = first + 1; h < last; ++h) {
    const float* row = plane + h * width;
    const auto offset = static_cast<int32_t>(h * width);
    for (int64_t w = 0; w < width; ++w) {
      const bool greater = row[w] > best[w];
      best[w] = greater ? row[w] : best[w];
      where[w] = greater ? offset + static_cast<int32_t>(w) : where[w];
    }
  }
}

// target[row * stride + k] += factor * rows[row * length + k], length a multiple of kVector.
HARNESS_WIDE void add_kernel(float* __restrict__ target, int64_t stride, const float* __restrict__ rows,
                             int64_t count, int64_t length, float factor) {
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t block = 0; block < length; block += kVector) {
      float* __restrict__ to = target + row * stride + block;
      const float* __restrict__ from = rows + row * length + block;
      for (int64_t k = 0; k < kVector; ++k) to[k] += factor * from[k];
    }
  }
}

// sums[row * length + k] += factor * image[row * stride + k], length a multiple of kVector.
HARNESS_WIDE void add_patch(float* __restrict__ sums, int64_t length, const float* __restrict__ image,
                            int64_t stride, int64_t count, float factor) {
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t block = 0; block < length; block += kVector) {
      float* __restrict__ to = sums + row * length + block;
      const float* __restrict__ from = image + row * stride + block;
      for (int64_t k = 0; k < kVector; ++k) to[k] += factor * from[k];
    }
  }
}

}  // namespace

bool ConvPool::fits(const Node& conv, const at::Tensor& weight, const Node& pool) {
  const auto& c = std::get<ConvAttributes>(conv.attributes);
  const auto& p = std::get<PoolAttributes>(pool.attributes);
  if (weight.dim() != 4 || p.kernel.size() != 2) return false;
  if (c.groups != 1 || c.dilation != std::vector<int64_t>{1, 1} || p.dilation != std::vector<int64_t>{1, 1}) {
    return false;
  }
  return weight.size(1) <= kMaxChannels && p.stride[0] * p.stride[1] >= 4;
}

ConvPool::ConvPool(const Node& conv, at::Tensor weight, at::Tensor bias, const Node& pool,
                   std::vector<int64_t> input)
    : conv_(std::get<ConvAttributes>(conv.attributes)),
      pool_(std::get<PoolAttributes>(pool.attributes)),
      weight_(weight.contiguous()),
      bias_(std::move(bias)),
      conv_shape_(conv.shape),
      pooled_shape_(pool.shape),
      input_(std::move(input)) {
  // The kernel windows cover this much of the padded input; what lies beyond has gradient zero.
  padded_height_ =
      std::max(input_[1] + conv_.padding[0], (conv_shape_[1] - 1) * conv_.stride[0] + weight_.size(2));
  padded_width_ =
      std::max(input_[2] + conv_.padding[1], (conv_shape_[2] - 1) * conv_.stride[1] + weight_.size(3));
  row_length_ = (weight_.size(3) + kVector - 1) / kVector * kVector;
  rows_ = at::constant_pad_nd(weight_, {0, row_length_ - weight_.size(3)}).contiguous();
}

ConvPool::Pooled ConvPool::forward(const at::Tensor& x) const {
  const at::Tensor y = at::convolution(x, weight_, bias_, conv_.stride, conv_.padding, conv_.dilation,
                                       /*transposed=*/false, {0, 0}, /*groups=*/1)
                           .contiguous();
  const int64_t planes = y.size(0) * y.size(1), height = y.size(2), width = y.size(3);
  const int64_t rows = pooled_shape_[1], columns = pooled_shape_[2];
  Pooled result;
  result.value = at::empty({y.size(0), y.size(1), rows, columns}, y.options());
  result.positions = at::empty(result.value.sizes(), y.options().dtype(at::kInt));
  const float* from = y.const_data_ptr<float>();
  float* value = result.value.mutable_data_ptr<float>();
  int32_t* position = result.positions.mutable_data_ptr<int32_t>();
  at::parallel_for(0, planes, 64, [&](int64_t begin, int64_t end) {
    std::vector<float> best(static_cast<size_t>(width));
    std::vector<int32_t> where(static_cast<size_t>(width));
    for (int64_t plane = begin; plane < end; ++plane) {
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t top = r * pool_.stride[0] - pool_.padding[0];
        column_maxima(from + plane * height * width, width, std::max<int64_t>(top, 0),
                      std::min(top + pool_.kernel[0], height), best.data(), where.data());
        for (int64_t c = 0; c < columns; ++c) {
          const int64_t left = c * pool_.stride[1] - pool_.padding[1];
          const int64_t first = std::max<int64_t>(left, 0), last = std::min(left + pool_.kernel[1], width);
          float max_value = best[first];
          int32_t at = where[first];
          for (int64_t w = first + 1; w < last; ++w) {
            // Among equal values the first in row order wins, as in torch: equal ones are common where the
            // image is constant, and the gradient's place depends on it.
            const bool wins = best[w] > max_value || (best[w] == max_value && where[w] < at);
            max_value = wins ? best[w] : max_value;
            at = wins ? where[w] : at;
          }
          const int64_t out = (plane * rows + r) * columns + c;
          value[out] = max_value;
          const int64_t conv_row = at / width, conv_column = at - conv_row * width;
          position[out] = static_cast<int32_t>(conv_row * conv_.stride[0] * padded_width_ +
                                               conv_column * conv_.stride[1]);
        }
      }
    }
  });
  return result;
}

at::Tensor ConvPool::backward(const at::Tensor& gradient, const at::Tensor& positions) const {
  const at::Tensor g = gradient.contiguous();
  const int64_t images = g.size(0), outputs = g.size(1), windows = g.size(2) * g.size(3);
  const int64_t channels = input_[0], kernel_rows = weight_.size(2);
  const int64_t plane = padded_height_ * padded_width_;
  at::Tensor result = at::empty({images, channels, input_[1], input_[2]}, g.options());
  const float* from = g.const_data_ptr<float>();
  const int32_t* position = positions.const_data_ptr<int32_t>();
  const float* rows = rows_.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  at::parallel_for(0, images, 8, [&](int64_t begin, int64_t end) {
    // The zeros that pad a kernel row reach at most one vector beyond the last plane.
    std::vector<float> padded(static_cast<size_t>(channels * plane + row_length_));
    for (int64_t n = begin; n < end; ++n) {
      std::fill(padded.begin(), padded.end(), 0.0f);
      for (int64_t o = 0; o < outputs; ++o) {
        const int64_t base = (n * outputs + o) * windows;
        const float* kernel = rows + o * channels * kernel_rows * row_length_;
        for (int64_t k = 0; k < windows; ++k) {
          const float factor = from[base + k];
          if (factor == 0) continue;
          for (int64_t c = 0; c < channels; ++c) {
            add_kernel(padded.data() + c * plane + position[base + k], padded_width_,
                       kernel + c * kernel_rows * row_length_, kernel_rows, row_length_, factor);
          }
        }
      }
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t h = 0; h < input_[1]; ++h) {
          const float* row =
              padded.data() + c * plane + (h + conv_.padding[0]) * padded_width_ + conv_.padding[1];
          std::copy(row, row + input_[2], to + ((n * channels + c) * input_[1] + h) * input_[2]);
        }
      }
    }
  });
  return result;
}

at::Tensor ConvPool::weight_gradient(const at::Tensor& x, const at::Tensor& gradient,
                                     const at::Tensor& positions) const {
  const at::Tensor g = gradient.contiguous(), where = positions.contiguous();
  const int64_t images = g.size(0), outputs = g.size(1), windows = g.size(2) * g.size(3);
  const int64_t channels = input_[0], kernel_rows = weight_.size(2);
  const int64_t plane = padded_height_ * padded_width_;
  // Patches are read in whole vectors, which may reach beyond the last plane; those products are dropped.
  at::Tensor padded = at::zeros({images * channels * plane + row_length_}, g.options());
  padded.narrow(0, 0, images * channels * plane)
      .view({images, channels, padded_height_, padded_width_})
      .slice(2, conv_.padding[0], conv_.padding[0] + input_[1])
      .slice(3, conv_.padding[1], conv_.padding[1] + input_[2])
      .copy_(x);
  at::Tensor sums = at::zeros({outputs, channels, kernel_rows, row_length_}, g.options());
  const float* image = padded.const_data_ptr<float>();
  const float* from = g.const_data_ptr<float>();
  const int32_t* position = where.const_data_ptr<int32_t>();
  float* to = sums.mutable_data_ptr<float>();
  at::parallel_for(0, outputs * channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t kernel = begin; kernel < end; ++kernel) {
      const int64_t o = kernel / channels, c = kernel % channels;
      for (int64_t n = 0; n < images; ++n) {
        const int64_t base = (n * outputs + o) * windows;
        for (int64_t k = 0; k < windows; ++k) {
          if (from[base + k] == 0) continue;
          add_patch(to + kernel * kernel_rows * row_length_, row_length_,
                    image + (n * channels + c) * plane + position[base + k], padded_width_, kernel_rows,
                    from[base + k]);
        }
      }
    }
  });
  return sums.narrow(3, 0, weight_.size(3)).contiguous();
}

}  // namespace harness
