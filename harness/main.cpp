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
    const int code = harness::dispatch(std::vector<std::string>(argv + 1, argv + argc));
    if (std::cout.flush()) return code;
    std::cerr << "standard output: found a place that takes no more, expected one that can be written to\n";
    return code == 0 ? 1 : code;
  } catch (const harness::ResultsError& error) {
    report(error, 4);
    std::cerr
        << "the results are damaged there: delete that cell's record.json, and the next run computes the "
           "cell again\n";
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
