#pragma once

#include <string>

#include "tests/conformance/case.hpp"

namespace harness::testing {

// A small approach that keeps to everything, and with `fault` one that does not: it draws a new value for one
// weight of the tiny network's last layer, six times. Registered nowhere. The faults are the words that
// fakes.cpp asks for; a misspelt one throws.
Case fake(const std::string& fault = "");

}  // namespace harness::testing
