#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "harness/model/network.hpp"

namespace harness {

// A network's output for prediction: the same function as Network::output(), faster on the CPU, where batch
// norm is folded into the layers before it and convolutions take the activation and the residual sum behind
// them into one oneDNN kernel with weights packed for it. Those kernels have no derivative: results are
// inference tensors, which autograd refuses. Outputs agree with Network::output() to float32 rounding.
// Elsewhere (CUDA, float64, black boxes, a LibTorch without these kernels) it is Network::output() itself.
class InferenceForm {
 public:
  // Parameters are copied: later changes of the network are not seen. `batch`: images that most calls will
  // have, for which weights are packed; other sizes work too. `network` must outlive the form.
  InferenceForm(const Network& network, int64_t batch);
  InferenceForm(InferenceForm&&) noexcept;
  ~InferenceForm();

  at::Tensor output(const at::Tensor& x) const;  // (n,C,H,W) on the network's device -> (n, classes)
  bool fused() const;                            // false: Network::output() itself

 private:
  struct Implementation;
  std::unique_ptr<Implementation> self_;
};

// Images per call that keep the largest values of a pass within a core's share of memory: a pure function of
// the network's shapes and device class (DESIGN 6).
int64_t preferred_batch(const Network& network);

}  // namespace harness
