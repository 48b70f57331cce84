#pragma once

#include "approaches/lp/linear_program.hpp"

namespace harness::lp {

// The smallest change of a dense layer's weights, without its biases, so that the layer meets demands at
// given points (approaches/docs/3M.md, Formulas). All in double; optimal up to the solver's tolerances.

enum class Norm { linf, l1 };  // greatest absolute change, or sum of absolute changes

// At every point, the logit of the label exceeds every other logit by at least `margin`.
struct ClassDemands {
  int features = 0, classes = 0;
  std::span<const double> phi;      // (points, features): inputs of the layer
  std::span<const double> logits;   // (points, classes): its outputs
  std::span<const int64_t> labels;  // (points)
  double margin = 0;
};

// At every point, the value of one unit becomes `wanted` where that is positive, and at most 0 elsewhere. A
// ReLU behind it then gives max(0, wanted).
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

// `limits.seconds` holds for all rounds together. The weights of features that are zero at all points do not
// change, and neither do those of classes that are no competitor at any point.
MinimalChange minimal_class_change(const ClassDemands& demands, Norm norm, const Limits& limits);
MinimalChange minimal_unit_change(const UnitDemands& demands, Norm norm, const Limits& limits);

}  // namespace harness::lp
