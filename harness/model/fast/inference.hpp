#pragma once

// Gain over Network::output() (build/bench_fast, one thread, 64 images): 2.4 times on ResNet20, 1.6 on the
// digits network, 1.5 on LeNet5; next to nothing where large convolutions take all time: 1.1 on ResNet18, 1.0
// on VGG16.
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "harness/model/network.hpp"

namespace harness {

// A network's output for prediction: the same function as Network::output(), faster on the CPU, where batch
// norm is folded into the layers before it and convolutions take the activation and the residual sum behind
// them into one oneDNN kernel with weights packed for it. Those kernels have no derivative: results are
// inference tensors, which autograd refuses. Outputs agree with Network::output() to float32 rounding.
// Elsewhere (CUDA, float64, a LibTorch without these kernels) it computes as Network::output() does, and for
// black boxes as a fork of it would: what a forward writes to its buffers ends with the form.
class InferenceForm {
 public:
  // Where fused, parameters are copied: later changes of the network are not seen. `batch`: images that most
  // calls will have, for which weights are packed; other sizes work too. `network` must outlive the form.
  InferenceForm(const Network& network, int64_t batch);
  InferenceForm(InferenceForm&&) noexcept;
  ~InferenceForm();

  // (n,C,H,W) on the network's device -> (n, classes). `not_finite`, where given and empty: the name of the
  // first node with a NaN or an infinity among its values, "output" of a black box. That is said of the nodes
  // as the network has them, whatever is fused, so that every device says the same: a value that cannot be
  // excluded to overflow (reach.hpp) is looked at, and a batch on which a fused layer might is computed
  // plainly.
  at::Tensor output(const at::Tensor& x, std::string* not_finite = nullptr) const;
  bool fused() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> self_;
};

// A black box for one pass over some images: a fork of it, so that what a forward writes to its buffers goes
// with the pass, and the seed of LibTorch's own generator set, from which it may draw. So its answers depend
// on the images of the pass and their batches alone.
Network black_box_for_pass(const Network& network);

// Images per call that keep the largest values of a pass within a core's share of memory: a pure function of
// the network's shapes and device class, never of what the machine has to spare.
int64_t preferred_batch(const Network& network);

}  // namespace harness
