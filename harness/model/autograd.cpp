#include "harness/model/autograd.hpp"

#include <torch/csrc/autograd/autograd.h>

namespace harness {

std::vector<at::Tensor> grad(const std::vector<at::Tensor>& outputs, const std::vector<at::Tensor>& inputs,
                             const std::vector<at::Tensor>& seeds, GradOptions options) {
  return torch::autograd::grad(outputs, inputs, seeds, options.retain_graph, /*create_graph=*/false,
                               options.allow_unused);
}

}  // namespace harness
