#include "harness/run/predict.hpp"

#include <limits>

#include "harness/data/reader.hpp"
#include "harness/model/inference.hpp"
#include "harness/run/stop.hpp"

namespace harness {

Predictions predict(const Network& network, const Split& split, int64_t batch, int64_t first) {
  const at::NoGradGuard no_grad;
  const int64_t count = first > 0 ? std::min(first, split.size()) : split.size();
  const InferenceForm form(network, std::min(batch, std::max<int64_t>(count, 1)));
  Predictions result;
  if (const std::vector<std::string> names = network.not_finite(); !names.empty()) {
    result.not_finite = "parameter " + names.front() + " holds NaN or an infinite value";
  }
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
    const at::Tensor output = form.output(x->to(network.device()), result.finite() ? &node : nullptr);
    if (!node.empty()) result.not_finite = "values of " + node + " are NaN or infinite on some images";
    const at::Tensor classes = output.argmax(1).to(at::kCPU, at::kInt);
    result.classes.insert(result.classes.end(), classes.data_ptr<int32_t>(),
                          classes.data_ptr<int32_t>() + classes.numel());
  }
  return result;
}

}  // namespace harness
