// NONE, a control: returns the original. Whatever its rows show is noise of the measurements.
#include "harness/approach/approach.hpp"

namespace harness {
namespace {

const bool registered = register_approach({
    .info = {.key = "NONE",
             .name = "No fix (control)",
             .level = Level::control,
             .publication = "this project",
             .random = false},
    .adapt = [](const FixRequest&) { return std::optional<Refusal>(); },
    .fix =
        [](const Network& original, FixContext&) {
          FixResult result;
          result.network = original.fork();
          result.note = "the original, unchanged on purpose";
          return result;
        },
});

}  // namespace
}  // namespace harness
