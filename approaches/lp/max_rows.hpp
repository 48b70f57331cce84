#pragma once

#include "approaches/lp/mixed_integer.hpp"

namespace harness::lp {

struct Row {
  std::vector<double> values;
  double min_value = 0;  // values.s >= min_value
};

struct MaxRows {
  Outcome outcome = Outcome::doubtful;  // of the first program; there may be an `s` without `optimal`
  std::string text;
  std::vector<double> s;  // empty: no point was found
  int violated = 0;       // soft rows that s does not meet
  int programs = 0;
  int64_t nodes = 0;
};

// Finds s with |s| <= bound that meets all hard rows and as many soft rows as possible
// (approaches/docs/NNR.md, Formulas). Of several it takes the one with the smallest sum of absolute values,
// by a second program, so that the answer does not depend on the solver. `limits` hold for each program. If
// they end the first, s is its best point so far; if they end the second, s is the answer of the first.
MaxRows satisfy_max_rows(int size, std::span<const Row> hard, std::span<const Row> soft, double bound,
                         const Limits& limits);

}  // namespace harness::lp
