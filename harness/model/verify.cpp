#include <ATen/ATen.h>

#include <cmath>

#include "harness/core/files.hpp"
#include "harness/model/cause.hpp"
#include "harness/model/implementation.hpp"

namespace harness {
namespace {

// Of the largest output of a batch: 100 times what rounding makes of float32 in deep networks.
constexpr double kMaxDifference = 1e-4;

void differs(Network::Implementation& implementation, const std::string& detail) {
  implementation.become_black_box("differs from TorchScript", detail,
                                  "the import differs from TorchScript: " + detail);
}

// TorchScript and the network side by side.
class Verification {
 public:
  explicit Verification(Network::Implementation& network)
      : network_(network), module_(module_with_values(network)), device_(network.device) {
    module_.to(device_);
  }

  // `theirs`: what TorchScript is known to answer; undefined: it is run.
  void compare(const at::Tensor& images, at::Tensor theirs = {}) {
    if (!network_.report.importable) return;
    const int64_t count = images.size(0);
    try {
      if (!theirs.defined()) theirs = answer(images);
    } catch (const std::exception& error) {
      // Squeezes and the like cannot take a lone image; the layer graph can.
      if (count > 1) differs(network_, "TorchScript fails on " + place(count) + ": " + cause_of(error));
      return;
    }
    const at::Tensor ours = network_.evaluate({network_.output}, {{0, images.to(network_.device)}})[0];
    if (count == 1 && theirs.numel() == ours.numel()) theirs = theirs.reshape(ours.sizes());
    if (theirs.sizes() != ours.sizes()) {
      return differs(network_, "another shape of the output on " + place(count));
    }
    judge(ours.cpu(), theirs.cpu(), count);
  }

 private:
  // Graphs may hold tensors of the CPU, which then is where they are run.
  at::Tensor answer(const at::Tensor& images) {
    if (!device_.is_cpu()) {
      try {
        return run_script(module_, images.to(device_, /*non_blocking=*/false, /*copy=*/true)).toTensor();
      } catch (const std::exception&) {
        device_ = at::kCPU;
        module_ = module_with_values(network_);
      }
    }
    return run_script(module_, images.to(device_, /*non_blocking=*/false, /*copy=*/true)).toTensor();
  }

  void judge(const at::Tensor& ours, const at::Tensor& theirs, int64_t count) {
    const double absolute = (ours - theirs).abs().max().item<double>();
    const double relative = absolute == 0 ? 0 : absolute / theirs.abs().max().item<double>();
    ImportReport& report = network_.report;
    // A value that is no number stays one.
    if (!(absolute <= report.max_abs_difference)) report.max_abs_difference = absolute;
    if (!(relative <= report.max_rel_difference)) report.max_rel_difference = relative;
    if (relative <= kMaxDifference) return;
    differs(network_, std::isnan(relative)
                          ? "outputs that are not a number, on " + place(count)
                          : "a difference of " + format_number(relative) + " of the greatest output on " +
                                place(count) + ", where " + format_number(kMaxDifference) + " is allowed");
  }

  std::string place(int64_t count) const {
    return std::to_string(count) + (count == 1 ? " image (" : " images (") + network_.device.str() + ")";
  }

  Network::Implementation& network_;
  torch::jit::Module module_;
  at::Device device_;
};

}  // namespace

void Network::Implementation::become_black_box(const std::string& unknown_operator, const std::string& detail,
                                               const std::string& training_limitation) {
  black_box = std::make_shared<torch::jit::Module>(module_with_values(*this));
  device = at::kCPU;
  report.importable = false;
  report.unknown_operator = unknown_operator;
  report.detail = detail;
  report.training_limitation = training_limitation;
  nodes.clear();
  parameters.clear();
  transposed.clear();
  output = logits = -1;
  ends_in_softmax = false;
}

at::Tensor repeated(const at::Tensor& images, int64_t count) {
  std::vector<at::Tensor> chosen;
  for (int64_t i = 0; i < count; ++i) chosen.push_back(images[i % images.size(0)]);
  return at::stack(chosen);
}

void verify_import(Network::Implementation& implementation, const at::Tensor& images,
                   const at::Tensor& theirs) {
  if (!implementation.report.importable) return;
  const at::NoGradGuard no_grad;
  Verification verification(implementation);
  if (implementation.report.baked_batch == 0) verification.compare(images.slice(0, 0, 1));
  verification.compare(images, theirs);
}

void Network::verify(const at::Tensor& sample, int64_t batch) {
  if (!importable()) return;
  const int64_t baked = report().baked_batch;
  const at::Device there = device();
  const at::Tensor images = repeated(sample.to(self_->dtype), baked > 0 ? baked : batch);
  verify_import(*self_, images, {});
  if (there != device()) to(there);
}

}  // namespace harness
