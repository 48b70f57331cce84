#include "approaches/shadowed.hpp"

namespace harness {

std::optional<Refusal> refuse_as_shadowed(const Approach& shadowed, const FixRequest& context) {
  for (const std::string& split : shadowed.info.needs) {
    if (!context.data->has(split)) return Refusal{"missing_split", split};
  }
  FixRequest request = context;
  request.info = &shadowed.info;
  request.hyperparameters = hyperparameters_of(shadowed.info, context.hyperparameters);
  request.shadow = "";
  return shadowed.adapt(request);
}

}  // namespace harness
