// Every approach and every control there is, held to every property of fixes. One alone:
//   build/tests/test_conformance -c RAND:AR
#include <set>

#include "tests/conformance/demand.hpp"
#include "tests/conformance/situations.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

// Polls that a stop is tried at. A control stops where the approaches do that it imitates.
int most_stops(const Case& one) {
  return one.setup().shadow.empty() ? 25 : 8;
}

// Who says no to what. The others of these keys apply there; a control says what the approach says that it
// imitates.
const std::set<std::string> kKnown = {"3M", "AR",  "CARE", "CT", "DTR", "GM",  "IN",
                                      "IR", "NNR", "NONE", "NR", "RA",  "VERE"};
struct Refused {
  std::string situation, code;
  std::set<std::string> keys;
};
const std::set<std::string> kRepair = {"3M", "AR",  "CARE", "DTR", "GM",  "IN",
                                       "IR", "NNR", "NR",   "RA",  "VERE"};
const std::set<std::string> kWhite = {"3M", "AR", "CARE", "CT", "DTR", "GM",
                                      "IN", "IR", "NNR",  "NR", "RA",  "VERE"};
const std::vector<Refused> kRefused = {
    {"black_box", "operator", kWhite},
    {"convolved", "structure", {"3M", "CARE", "DTR", "NNR", "NR", "RA", "VERE"}},
    {"no_correct", "no_correct_inputs", {"VERE"}},
    {"no_faults", "no_faults", kRepair},
    {"no_history", "no_history", {"NR"}},
    {"no_repair", "missing_split", kRepair},
    {"other_history", "history_mismatch", {"NR"}},
    {"one_dense", "structure", {"3M", "IN", "RA", "VERE"}},
    {"pooled", "structure", {"3M", "RA", "VERE"}},
    {"sigmoid", "operator", {"RA"}},
    {"skipping", "structure", {"3M", "RA", "VERE"}},
};

std::string code_expected(const std::string& situation, const std::string& key) {
  for (const Refused& one : kRefused) {
    if (one.situation == situation && one.keys.count(key) > 0) return one.code;
  }
  return "";
}

}  // namespace

TEST_CASE("a stop at any poll ends soon, in a usable model or in FAILURE timeout") {
  for (const Case& one : every_case()) {
    DYNAMIC_SECTION(one.text) {
      const StopsTried stops = stops_of(one, most_stops(one));
      if (one.key() != "NONE") CHECK(stops.polls > 2);
      demand_none(stop_complaints(one, stops));
    }
  }
}

TEST_CASE("a resumed fix is the undisturbed one, bit for bit") {
  for (const Case& one : every_case()) {
    DYNAMIC_SECTION(one.text) {
      demand_none(resume_complaints(one, stops_of(one, most_stops(one))));
    }
  }
}

TEST_CASE("a second stop loses nothing that the first one left") {
  for (const Case& one : every_case()) {
    DYNAMIC_SECTION(one.text) {
      demand_none(second_stop_complaints(one, stops_of(one, 6)));
    }
  }
}

TEST_CASE("the seed decides what is drawn, and nothing else does") {
  for (const Case& one : every_case()) {
    DYNAMIC_SECTION(one.text) {
      demand_none(seed_complaints(one, one.approach->info.random));
    }
  }
}

TEST_CASE("what a fix changed is what it declares") {
  for (const Case& one : every_case()) {
    DYNAMIC_SECTION(one.text) {
      demand_none(touched_complaints(one));
    }
  }
}

TEST_CASE("parameters that limit the work do so") {
  for (const Case& one : every_case()) {
    DYNAMIC_SECTION(one.text) {
      demand_none(work_complaints(one));
    }
  }
}

TEST_CASE("a fix keeps to its budgets of time and memory") {
  for (const Case& one : every_case()) {
    DYNAMIC_SECTION(one.text) {
      demand_none(budget_complaints(one));
    }
  }
}

TEST_CASE("a fix prints nothing") {
  for (const Case& one : every_case()) {
    DYNAMIC_SECTION(one.text) {
      demand_none(print_complaints(one));
    }
  }
}

TEST_CASE("a fix leaves alone what is not its own, and no test image reaches it") {
  for (const Case& one : every_case()) {
    DYNAMIC_SECTION(one.text) {
      demand_none(side_effect_complaints(one));
    }
  }
}

TEST_CASE("what does not suit an approach is refused before any work") {
  for (const Case& one : every_case()) {
    DYNAMIC_SECTION(one.text) {
      for (const Situation& situation : situations()) {
        INFO(situation.name);
        const Case moved = moved_to(one, situation);
        const std::string shadow = moved.setup().shadow, key = shadow.empty() ? one.key() : shadow;
        const auto refusal = refusal_of(moved);
        if (kKnown.count(key) > 0)
          CHECK((refusal ? refusal->code : "") == code_expected(situation.name, key));
        demand_none(refusal_complaints(moved));
      }
    }
  }
}
