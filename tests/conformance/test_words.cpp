// What every approach and control says of itself.
#include "tests/conformance/demand.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

TEST_CASE("parameters have a default within their range, a unit and a source that can be opened") {
  for (const Approach& approach : approaches()) {
    DYNAMIC_SECTION(approach.info.key) {
      demand_none(parameter_complaints(approach.info));
    }
  }
}

TEST_CASE("an approach says what it is and which splits it reads") {
  for (const Approach& approach : approaches()) {
    DYNAMIC_SECTION(approach.info.key) {
      demand_none(info_complaints(approach.info));
    }
  }
}

TEST_CASE("controls imitate what they say they can, and name what they cannot") {
  for (const Approach& control : approaches()) {
    if (!control.info.shadows) continue;
    for (const Approach& other : approaches()) {
      if (other.info.shadows) continue;
      DYNAMIC_SECTION(control.info.key << ":" << other.info.key) {
        demand_none(control_complaints(control, other));
      }
    }
  }
}
