#include "harness/measure/predict.hpp"

#include <limits>
#include <optional>

#include "harness/core/stop_signals.hpp"
#include "harness/data/reader.hpp"
#include "harness/model/fast/inference.hpp"
#include "harness/model/random_draws.hpp"

namespace harness {
namespace {

// Finds out whether a black box drew random numbers or changed its answers during a pass.
class SteadinessCheck {
 public:
  explicit SteadinessCheck(at::Device device) : draws_(device) {}

  void take(const at::Tensor& x, const at::Tensor& output) {
    if (first_.defined()) return;
    first_ = x.clone();
    answer_ = output.clone();
  }

  std::string verdict(const InferenceForm& form) const {
    if (draws_.drawn()) return DrawWatch::kDrawn;
    if (!first_.defined()) return "";
    const double difference = (form.output(first_) - answer_).abs().max().item<double>();
    if (difference <= kSameAnswer * answer_.abs().max().item<double>()) return "";
    return "after the pass the first images have another answer than before";
  }

 private:
  DrawWatch draws_;
  at::Tensor first_, answer_;
};

}  // namespace

Predictions predict(const Network& network, const Split& split, int64_t batch, int64_t first) {
  const at::NoGradGuard no_grad;
  const int64_t count = first > 0 ? std::min(first, split.size()) : split.size();
  const InferenceForm form(network, std::min(batch, std::max<int64_t>(count, 1)));
  Predictions result;
  if (const std::vector<std::string> names = network.not_finite(); !names.empty()) {
    result.not_finite = "parameter " + names.front() + " holds NaN or an infinite value";
  }
  std::optional<SteadinessCheck> steadiness;  // an imported network has no random operators
  if (!network.importable()) steadiness.emplace(network.device());
  std::string node;
  result.low = std::numeric_limits<double>::infinity();
  result.high = -result.low;
  result.classes.reserve(static_cast<size_t>(count));
  BatchReader reader(split, batch, count);
  while (const auto x = reader.next()) {
    throw_if_stopped();
    const auto [low, high] = x->aminmax();
    result.low = std::min(result.low, low.item<double>());
    result.high = std::max(result.high, high.item<double>());
    const at::Tensor there = x->to(network.device());
    const at::Tensor output = form.output(there, result.finite() ? &node : nullptr);
    if (steadiness) steadiness->take(there, output);
    if (!node.empty()) result.not_finite = "values of " + node + " are NaN or infinite on some images";
    const at::Tensor classes = output.argmax(1).to(at::kCPU, at::kInt);
    result.classes.insert(result.classes.end(), classes.data_ptr<int32_t>(),
                          classes.data_ptr<int32_t>() + classes.numel());
  }
  if (steadiness && result.finite()) result.random = steadiness->verdict(form);
  return result;
}

}  // namespace harness
