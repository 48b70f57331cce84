// The bytes are a configuration. One that is read must read the same again from its effective form.
#include "harness/config/config.hpp"
#include "harness/approach/approach.hpp"
#include "harness/core/error.hpp"
#include "tests/fuzz/targets.hpp"

namespace harness::testing {

void fuzz_config(std::string_view bytes, const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "config.json";
  write_bytes(file, bytes);
  const Catalog catalog = approach_catalog();
  std::string first;
  try {
    first = read_config(file, catalog, {.set = {}, .need_files = false}).effective().dump();
  } catch (const UserError&) {
    return;
  }
  const ConfigOptions again{.set = {}, .need_files = false, .from_effective = true};
  const Config second = read_config_value(nlohmann::json::parse(first), file, catalog, again);
  if (second.effective().dump() != first) fault("the effective configuration reads as another one");
}

}  // namespace harness::testing
