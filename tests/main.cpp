// Catch2's own main program, without LibTorch and optimisation: it compiles in half the time.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <string>

namespace harness::testing {
extern int (*worker_entry)();  // tests/support.hpp
}

int main(int count, char** arguments) {
  if (count > 1 && std::string(arguments[1]) == "worker" && harness::testing::worker_entry != nullptr) {
    return harness::testing::worker_entry();
  }
  return Catch::Session().run(count, arguments);
}
