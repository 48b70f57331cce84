#include "harness/measure/random_output.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <cstdio>

#include "harness/model/fast/inference.hpp"
#include "harness/model/random_draws.hpp"

namespace harness {
namespace {

constexpr int64_t kCheckedImages = 8, kCheckedAlone = 3;

std::string percent_of(double share) {
  char text[64];
  std::snprintf(text, sizeof text, "%.3g %% of the largest output", 100 * share);
  return text;
}

}  // namespace

Invariant check_random_output(const Network& network, const at::Tensor& sample, int64_t batch) {
  const Invariant sound = {"random_output", true, ""};
  std::optional<Network> fork;  // answering may change a black box, so that a fork is used
  if (!network.importable()) fork = black_box_for_pass(network);
  const Network& model = fork ? *fork : network;
  const at::Tensor x = sample.narrow(0, 0, std::min(sample.size(0), kCheckedImages)).to(model.device());
  const DrawWatch draws(model.device());
  const at::Tensor first = model.output(x), second = model.output(x);
  if (fork && draws.drawn()) return {"random_output", false, DrawWatch::kDrawn};
  const double scale = std::max(first.abs().max().item<double>(), 1e-30);
  if (!std::isfinite(scale)) return sound;
  // false for NaN as well
  const auto agree = [&](const at::Tensor& a, const at::Tensor& b, double tolerance, double* difference) {
    *difference = (a - b).abs().max().item<double>() / scale;
    return *difference <= tolerance;
  };
  double difference = 0;
  if (!agree(first, second, kSameAnswer, &difference)) {
    return {"random_output", false, "the same images give outputs that differ by " + percent_of(difference)};
  }
  const at::Context& context = at::globalContext();
  const bool coarse = model.device().is_cuda() && (context.allowTF32CuBLAS() || context.allowTF32CuDNN());
  const double near = coarse ? 1e-2 : 1e-4;
  const int64_t images = x.size(0), last = std::min(images, kCheckedAlone) - 1;
  for (int64_t k = 0; k <= last; ++k) {
    const int64_t image = last > 0 ? k * (images - 1) / last : 0;
    const at::Tensor alone = model.output(x.narrow(0, image, 1));
    if (agree(alone, first.narrow(0, image, 1), near, &difference)) continue;
    return {"random_output", false, "an image alone and in a batch differ by " + percent_of(difference)};
  }
  if (network.importable() || batch <= images) return sound;
  const at::Tensor cycle = at::arange(batch, x.options().dtype(at::kLong)).remainder(images);
  if (agree(model.output(x.index_select(0, cycle)), first.index_select(0, cycle), near, &difference))
    return sound;
  return {"random_output", false,
          "an image among " + std::to_string(images) + " and among " + std::to_string(batch) + " differ by " +
              percent_of(difference)};
}

Invariant with_pass(Invariant check, const std::string& random) {
  if (check.holds && !random.empty()) return {check.name, false, random};
  return check;
}

}  // namespace harness
