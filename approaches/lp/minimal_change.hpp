#pragma once

#include "approaches/lp/linear_program.hpp"

namespace harness::lp {

// The least change of a dense layer's kernel, biases left as they are, that gives points what is demanded of
// them (approaches/docs/3M.md, Formulas). All in double; optimal up to the solver's tolerances.

enum class Norm { linf, l1 };  // greatest absolute change, or sum of absolute changes

// Of every point: its label's logit exceeds every other one by at least `margin`.
struct ClassDemands {
  int features = 0, classes = 0;
  std::span<const double> phi;      // (points, features): what the layer reads
  std::span<const double> logits;   // (points, classes): what it gives
  std::span<const int64_t> labels;  // (points)
  double margin = 0;
};

// Of one unit: at every point its value becomes `wanted` where that is positive, and at most 0 elsewhere, so
// that a ReLU behind it gives max(0, wanted).
struct UnitDemands {
  int features = 0;
  std::span<const double> phi;     // (points, features)
  std::span<const double> values;  // (points): of the unit, before its ReLU
  std::span<const double> wanted;  // (points)
};

struct MinimalChange {
  Outcome outcome = Outcome::doubtful;  // optimal, infeasible, or what ended the solver
  std::string text;                     // why, unless optimal
  double size = 0;                      // norm of the change
  std::vector<double> change;           // (classes, features), or (features); empty unless optimal
  int rounds = 0, rows = 0;             // solves, and rows of the last one
  int64_t iterations = 0;               // of the simplex method
};

// `limits.seconds` is for all rounds together. Features that are zero at all points, and classes that compete
// at none, keep their weights.
MinimalChange minimal_class_change(const ClassDemands& demands, Norm norm, const Limits& limits);
MinimalChange minimal_unit_change(const UnitDemands& demands, Norm norm, const Limits& limits);

}  // namespace harness::lp
