#include "harness/cell/version.hpp"

#include <torch/headeronly/version.h>

#include "harness/cell/version_generated.hpp"

namespace harness::cell {

std::string harness_version() {
  std::string text = HARNESS_VERSION;
  if (!std::string(HARNESS_COMMIT).empty()) {
    text += std::string(" (commit ") + HARNESS_COMMIT + (HARNESS_DIRTY ? ", with uncommitted changes)" : ")");
  }
  return text;
}

nlohmann::json version_provenance() {
#if defined(__clang__)
  const char* compiler = "Clang " __VERSION__;
#else
  const char* compiler = "GCC " __VERSION__;
#endif
  return {{"version", HARNESS_VERSION},
          {"commit", HARNESS_COMMIT},
          {"dirty", HARNESS_DIRTY},
          {"compiler", compiler},
          {"libtorch", TORCH_VERSION}};
}

}  // namespace harness::cell
