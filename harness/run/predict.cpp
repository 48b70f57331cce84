#include "harness/run/predict.hpp"

#include <limits>

#include "harness/run/stop.hpp"

namespace harness {

Predictions predict(const Network& network, const Split& split, int64_t batch, int64_t first) {
  const at::NoGradGuard no_grad;
  const int64_t count = first > 0 ? std::min(first, split.size()) : split.size();
  Predictions result;
  result.low = std::numeric_limits<double>::infinity();
  result.high = -result.low;
  result.classes.reserve(static_cast<size_t>(count));
  for (int64_t begin = 0; begin < count; begin += batch) {
    throw_if_stopped();
    const at::Tensor x = split.inputs(begin, std::min(begin + batch, count));
    const auto [low, high] = x.aminmax();
    result.low = std::min(result.low, low.item<double>());
    result.high = std::max(result.high, high.item<double>());
    const at::Tensor output = network.output(x.to(network.device()));
    result.finite = result.finite && output.isfinite().all().item<bool>();
    const at::Tensor classes = output.argmax(1).to(at::kCPU, at::kInt);
    result.classes.insert(result.classes.end(), classes.data_ptr<int32_t>(),
                          classes.data_ptr<int32_t>() + classes.numel());
  }
  return result;
}

}  // namespace harness
