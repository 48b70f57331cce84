#include "approaches/shadowed.hpp"

namespace harness {

std::optional<Refusal> refuse_as_shadowed(const Approach& shadowed, const AdaptContext& context) {
  for (const std::string& split : shadowed.info.needs) {
    if (!context.data.has(split)) return Refusal{"missing_split", split};
  }
  const Parameters parameters = parameters_of(shadowed.info, context.parameters);
  return shadowed.adapt({.network = context.network,
                         .data = context.data,
                         .parameters = parameters,
                         .shadow = "",
                         .training = context.training,
                         .history_size = context.history_size,
                         .repair_faults = context.repair_faults,
                         .repair_correct = context.repair_correct,
                         .repair_error_types = context.repair_error_types});
}

}  // namespace harness
