#pragma once

// Gain over autograd through the network's own operators (build/bench_fast, one thread, 64 images): 4.1 times
// on LeNet5, 1.9 on ResNet20 and the digits network, 1.2 on ResNet18, none on VGG16 (0.95).
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

#include "harness/model/network.hpp"

namespace harness {

// Gradients of a loss with respect to the inputs only, evaluation mode, parameters being constants: a reverse
// sweep over the layer nodes with batch norm folded into convolutions, ReLU behind max pooling, and a cheaper
// form of the first layers' gradients (gradient_plan.hpp, conv_pool.hpp). Node kinds without a rule of their
// own go through autograd one by one; black-box models through TorchScript's autograd as a whole. Values
// agree with the network's own up to rounding. Holds copies of the parameters; the network must outlive it.
class InputGradient {
 public:
  enum class Of { output, logits };
  // d loss / d values for values (N, classes), as a tensor of its own (it is overwritten).
  using Seed = std::function<at::Tensor(const at::Tensor& values)>;

  InputGradient(const Network& network, Of of);
  InputGradient(InputGradient&&) noexcept;
  ~InputGradient();

  // d loss / d x for x (N,C,H,W) on the network's device; float32 as x, contiguous.
  at::Tensor operator()(const at::Tensor& x, const Seed& seed) const;

  // Whether several threads may call at once, each computing its own inputs on the one thread it has.
  bool concurrent() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> self_;
};

}  // namespace harness
