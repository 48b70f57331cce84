#include "approaches/dense_layers.hpp"

namespace harness {

std::vector<TargetLayer> dense_layers(const Network& network) {
  std::vector<TargetLayer> layers = target_layers(network);
  std::erase_if(layers, [](const TargetLayer& layer) { return layer.convolution; });
  return layers;
}

std::optional<Refusal> refuse_without_dense_layers(const FixRequest& request) {
  const ImportReport& report = request.network->report();
  if (!report.importable) return Refusal{"operator", report.unknown_operator};
  if (dense_layers(*request.network).empty()) {
    return Refusal{"structure", "no dense layer with weights of its own"};
  }
  if (request.repair_faults && *request.repair_faults == 0) {
    return Refusal{"no_faults", "the repair split has no misclassified input"};
  }
  return std::nullopt;
}

}  // namespace harness
