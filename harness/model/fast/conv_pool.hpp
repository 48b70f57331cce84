#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "harness/model/node.hpp"

namespace harness {

// A convolution over few input channels whose output only a max pooling reads, on the CPU in float32. The
// gradient behind the pooling is zero but for one position per window, so the convolution's input gradient is
// a sum of kernels placed at these positions: about one ninth (3x3 pooling) of the dense products, and
// torch's dense kernels are far from their best below 16 channels.
// Gain over the two layers' own operators, there and back (build/bench_fast, one thread, 64 images): 5 times
// in LeNet5, 2.1 in the digits network; of the gradient of the weights 2.4 and 1.2.
class ConvPool {
 public:
  struct Pooled {
    at::Tensor value;      // (N, out channels, rows, columns), contiguous
    at::Tensor positions;  // int32, as value: where in the padded input the winning kernel window begins
  };

  // True for two spatial dimensions, one group, no dilation, at most kMaxChannels input channels and at
  // least four conv outputs per window step.
  static bool fits(const Node& conv, const at::Tensor& weight, const Node& pool);
  static constexpr int64_t kMaxChannels = 4;

  // `pooled` and `input` are shapes without the batch; fits() must hold.
  ConvPool(const Node& conv, at::Tensor weight, at::Tensor bias, const Node& pool,
           std::vector<int64_t> input);
  Pooled forward(const at::Tensor& x) const;
  // With respect to x, from the one with respect to the pooled value.
  at::Tensor backward(const at::Tensor& gradient, const at::Tensor& positions) const;
  // With respect to the kernel, summed over the images of x; the same for any number of threads.
  at::Tensor weight_gradient(const at::Tensor& x, const at::Tensor& gradient,
                             const at::Tensor& positions) const;

 private:
  ConvAttributes conv_;
  PoolAttributes pool_;
  at::Tensor weight_, bias_;
  at::Tensor rows_;  // kernel rows, each padded with zeros to whole vectors
  std::vector<int64_t> conv_shape_, pooled_shape_, input_;
  int64_t padded_height_, padded_width_, row_length_;
};

}  // namespace harness
