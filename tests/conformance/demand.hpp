#pragma once

#include "tests/conformance/properties.hpp"
#include "tests/support.hpp"

namespace harness::testing {

// Fails the test where there are complaints, and prints them.
inline void demand_none(const Complaints& found) {
  INFO(lines_of(found));
  CHECK(found.empty());
}

}  // namespace harness::testing
