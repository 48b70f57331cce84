#pragma once

#include <string>
#include <vector>

#include "tests/conformance/case.hpp"

namespace harness::testing {

// The tiny data, changed: "poisoned" (absurd test images and labels), "no_test", "no_repair", and with labels
// of the repair split that suit the tiny network badly: "no_faults" (all as it answers), "no_correct" (none),
// "one_kind" (its only faults are twelve of one label and one answer).
const Dataset& data_with(const std::string& name);

// Something that does not suit every approach.
struct Situation {
  std::string name;
  const Network* network = nullptr;
  const Dataset* data = nullptr;
  size_t history = 2;
  bool is_other_history = false;  // its last checkpoint is not the network
};

// Data as above on the tiny network; "no_history", "other_history"; and networks: "black_box" (values decide
// its flow), "convolved" (no dense layer), "pooled", "sigmoid", "skipping" (headed.hpp), "one_dense".
const std::vector<Situation>& situations();

// The case as it would be there.
Case moved_to(const Case& one, const Situation& situation);

}  // namespace harness::testing
