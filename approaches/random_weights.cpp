// RAND, a control: the search of another approach on weights drawn at random instead of localised ones. What
// it reaches is what the search alone is worth. The approach offers the hook; nothing here knows any of them.
#include "approaches/shadowed.hpp"
#include "harness/approach/approach.hpp"
#include "harness/core/error.hpp"

namespace harness {
namespace {

// Plain RAND imitates Arachne, the first approach that searched single weights.
std::string shadowed_key(const std::string& shadow) {
  return shadow.empty() ? "AR" : shadow;
}

std::optional<Refusal> adapt(const FixRequest& request) {
  const std::string key = shadowed_key(request.shadow);
  const Approach* shadowed = find_approach(key);
  if (shadowed == nullptr || !shadowed->fix_with_random_locator) {
    return Refusal{"structure", key + " has no search that could be run on weights drawn at random"};
  }
  return refuse_as_shadowed(*shadowed, request);
}

FixResult fix(const Network& original, FixContext& context) {
  const std::string key = shadowed_key(context.shadow());
  const Approach* shadowed = find_approach(key);
  if (shadowed == nullptr || !shadowed->fix_with_random_locator)
    interface_misuse("RAND cannot imitate " + key);
  return shadowed->fix_with_random_locator(original, context,
                                           hyperparameters_of(shadowed->info, context.hyperparameters()));
}

const bool registered = register_approach({
    .info = {.key = "RAND",
             .name = "Random weights (control)",
             .level = Level::control,
             .publication = "this project",
             .uses = {"train", "validation", "repair"},
             .shadows = true},
    .adapt = adapt,
    .fix = fix,
    .can_imitate = [](const Approach& other) { return static_cast<bool>(other.fix_with_random_locator); },
});

}  // namespace
}  // namespace harness
