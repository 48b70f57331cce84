#pragma once

#include <ATen/record_function.h>

#include <string_view>

namespace harness::testing {

// Counts the convolutions that are computed on this thread as long as it lives: how often a network is gone
// through, batch by batch. One at a time.
class ConvolutionCounter {
 public:
  ConvolutionCounter() {
    calls() = 0;
    handle_ = at::addThreadLocalCallback(at::RecordFunctionCallback(see).scopes({at::RecordScope::FUNCTION}));
  }
  ~ConvolutionCounter() { at::removeCallback(handle_); }
  ConvolutionCounter(const ConvolutionCounter&) = delete;
  ConvolutionCounter& operator=(const ConvolutionCounter&) = delete;
  int64_t count() const { return calls(); }

 private:
  // Callbacks are plain functions. What the function is given as inputs cannot be asked for: that part of the
  // header depends on how LibTorch was built.
  static std::unique_ptr<at::ObserverContext> see(const at::RecordFunction& function) {
    calls() += std::string_view(function.name()) == "aten::convolution";
    return nullptr;
  }
  static int64_t& calls() {
    static int64_t number = 0;
    return number;
  }

  at::CallbackHandle handle_;
};

}  // namespace harness::testing
