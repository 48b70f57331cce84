#pragma once

#include "approaches/lp/mixed_integer.hpp"

namespace harness::lp {

struct Row {
  std::vector<double> values;
  double min_value = 0;  // values.s >= least
};

struct MaxRows {
  Outcome outcome = Outcome::doubtful;  // of the first program; `s` may be there without optimal too
  std::string text;
  std::vector<double> s;  // empty: no point
  int violated = 0;       // soft rows that s does not meet
  int programs = 0;
  int64_t nodes = 0;
};

// s with |s| <= bound that meets all hard and as many soft rows as possible, and of those the one with the
// smallest sum of absolute values, so that the answer does not depend on the solver's choice among equals
// (approaches/docs/NNR.md, Formulas). `limits` are those of each of the two programs; when they end the
// first, s is the best point it had, when they end the second, the answer of the first.
MaxRows satisfy_max_rows(int size, std::span<const Row> hard, std::span<const Row> soft, double bound,
                         const Limits& limits);

}  // namespace harness::lp
