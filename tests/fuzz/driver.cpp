// What libFuzzer calls (tests/long/fuzz): HARNESS_FUZZ_TARGET names the reader.
#include <unistd.h>

#include <cstdlib>

#include "tests/fuzz/targets.hpp"

namespace {

using namespace harness::testing;

const FuzzTarget& chosen_target() {
  const char* name = std::getenv("HARNESS_FUZZ_TARGET");
  for (const FuzzTarget& target : fuzz_targets()) {
    if (name != nullptr && target.name == name) return target;
  }
  fault("HARNESS_FUZZ_TARGET is none of config, data, script, checkpoint, record");
}

std::filesystem::path make_folder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "harness_fuzz_XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) fault("no temporary folder");
  return pattern;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const FuzzTarget& target = chosen_target();
  static const std::filesystem::path folder = make_folder();
  try {
    target.run({reinterpret_cast<const char*>(data), size}, folder);
  } catch (const std::exception& error) {
    fault(std::string("an exception that is no UserError: ") + error.what());
  }
  return 0;
}
