#include "tests/fuzz/targets.hpp"

#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace harness::testing {

const std::vector<FuzzTarget>& fuzz_targets() {
  static const std::vector<FuzzTarget> targets = {{"config", fuzz_config},
                                                  {"data", fuzz_data},
                                                  {"script", fuzz_script},
                                                  {"checkpoint", fuzz_checkpoint},
                                                  {"record", fuzz_record}};
  return targets;
}

void fault(const std::string& message) {
  std::fprintf(stderr, "fault: %s\n", message.c_str());
  std::abort();
}

void write_bytes(const std::filesystem::path& file, std::string_view bytes) {
  std::ofstream stream(file, std::ios::binary);
  stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!stream.flush()) fault("the file system of the fuzzer is full: " + file.string());
}

}  // namespace harness::testing
