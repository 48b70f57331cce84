#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace harness {

// As torch.autograd.grad takes them. `create_graph` is always false: no second derivatives.
struct GradOptions {
  bool retain_graph = false;
  bool allow_unused = false;  // an input that no output depends on has an undefined gradient, not an error
};

// The gradients of sum_i <outputs[i], seeds[i]> with respect to `inputs`, one of each input's shape; without
// seeds every output is a scalar. A function of our own, as the header behind it costs every source half a
// second.
std::vector<at::Tensor> grad(const std::vector<at::Tensor>& outputs, const std::vector<at::Tensor>& inputs,
                             const std::vector<at::Tensor>& seeds = {}, GradOptions options = {});

}  // namespace harness
