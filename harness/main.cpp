#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "harness/cli/commands.hpp"
#include "harness/cli/common.hpp"
#include "harness/core/stop_signals.hpp"
#include "harness/measure/memory.hpp"
#include "harness/store/results.hpp"

namespace {

// OpenMP's threads wait for one another by spinning, which takes up to ten times longer wherever the cores
// are also used by others, and gains nothing where they are not (measured). The runtime reads its policy
// while it is loaded, before main(): commands that compute by themselves start the program again, as the same
// process. The others leave computing to workers, which get their policy at once.
void wait_without_spinning(char** argv) {
  const std::string command = argv[1] == nullptr ? "" : argv[1];
  bool computes = false;
  for (const char* name : {"check", "evaluate", "fix", "inspect"}) computes = computes || command == name;
  if (!computes) return;
  if (getenv("OMP_WAIT_POLICY") != nullptr || getenv("GOMP_SPINCOUNT") != nullptr) return;
  setenv("OMP_WAIT_POLICY", "passive", 1);
  execv("/proc/self/exe", argv);  // comes back only where that is impossible: slower, but the same results
}

int report(const harness::UserError& error, int code) {
  for (const harness::Problem& problem : error.problems()) std::cerr << harness::to_text(problem) << "\n";
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  wait_without_spinning(argv);
  harness::keep_memory();
  try {
    const int code = harness::cli::dispatch(std::vector<std::string>(argv + 1, argv + argc));
    if (std::cout.flush()) return code;
    std::cerr << "standard output: found a place that takes no more, expected one that can be written to\n";
    return code == 0 ? 1 : code;
  } catch (const harness::ResultsError& error) {
    harness::cli::print_damage(error);
    return 4;
  } catch (const harness::UserError& error) {
    return report(error, 2);
  } catch (const harness::Interrupted&) {
    return 3;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    std::cerr << "internal error: " << text.substr(0, text.find('\n')) << "\n";
    return 1;
  }
}
