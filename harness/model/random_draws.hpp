#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace harness {

// Answers to the same images are the same up to this difference over the largest output.
inline constexpr double kSameAnswer = 1e-6;

// Whether anything has drawn from LibTorch's own random generators, the CPU's and that of `device`, since the
// watch began. A model that does may give another answer the next time, however rarely: the difference of two
// answers shows that only by luck, the state of the generators always does.
class DrawWatch {
 public:
  explicit DrawWatch(at::Device device);
  bool drawn() const;
  static constexpr const char* kDrawn = "the model draws random numbers when it answers";

 private:
  std::vector<at::Tensor> states() const;

  at::Device device_;
  std::vector<at::Tensor> before_;
};

}  // namespace harness
