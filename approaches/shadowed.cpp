#include "approaches/shadowed.hpp"

namespace harness {

std::optional<Refusal> refuse_as_shadowed(const Approach& shadowed, const FixRequest& request) {
  for (const std::string& split : shadowed.info.needs) {
    if (!request.data->has(split)) return Refusal{"missing_split", split};
  }
  FixRequest handed_on = request;
  handed_on.info = &shadowed.info;
  handed_on.hyperparameters = hyperparameters_of(shadowed.info, request.hyperparameters);
  handed_on.shadow = "";
  return shadowed.adapt(handed_on);
}

}  // namespace harness
