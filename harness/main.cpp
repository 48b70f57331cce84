#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "harness/cli/commands.hpp"
#include "harness/core/results.hpp"
#include "harness/measure/memory.hpp"
#include "harness/run/stop.hpp"

namespace {

int report(const harness::UserError& error, int code) {
  for (const harness::Problem& problem : error.problems()) std::cerr << harness::to_text(problem) << "\n";
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  harness::keep_memory();
  try {
    return harness::dispatch(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const harness::ResultsError& error) {
    return report(error, 4);
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
