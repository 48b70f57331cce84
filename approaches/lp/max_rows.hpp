#pragma once

#include "approaches/lp/mixed_integer.hpp"

namespace harness::lp {

struct Row {
  std::vector<double> values;
  double min_value = 0;  // values.s >= min_value
};

struct MaxRows {
  // Of the first program, or `stopped` where either was; with time_limit there may be an `s`.
  Outcome outcome = Outcome::doubtful;
  std::string text;
  std::vector<double> s;  // empty: no point was found, or it was stopped
  int violated = 0;       // soft rows that s does not meet
  bool least = false;     // the second program has proved that s is the smallest
  int programs = 0;
  int64_t nodes = 0;
};

// Finds s with |s| <= bound that meets all hard rows and as many soft rows as possible
// (approaches/docs/NNR.md, Formulas). Of several it takes the one with the smallest sum of absolute values,
// by a second program, so that the answer does not depend on the solver. `limits.seconds` holds for both
// together. If time ends the first, s is its best point so far; if it ends the second, s is the answer of the
// first. A stop in either leaves no s.
MaxRows satisfy_max_rows(int size, std::span<const Row> hard, std::span<const Row> soft, double bound,
                         const Limits& limits);

}  // namespace harness::lp
