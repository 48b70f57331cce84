#pragma once

#include <limits>
#include <span>
#include <string>
#include <vector>

namespace harness::lp {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

enum class Sense { minimise, maximise };

// How a solve has ended. All but `optimal` say why in Solution::text.
enum class Outcome {
  optimal,       // and re-checked: rows and bounds hold, the dual bound agrees with the objective
  infeasible,    // and re-checked by a combination of rows that no point within the bounds meets
  unbounded,     // and re-checked by a feasible point and a direction that goes on for ever
  time_limit,    // Limits::seconds
  memory_limit,  // Limits::bytes
  stopped,       // Limits::stop
  doubtful,      // the solver answers, but its answer does not pass our checks, or it has given up
};
const char* to_text(Outcome outcome);

// sense cost.x  with  low <= x <= high  and  row_low <= A x <= row_high; A by rows. Bounds may be infinite;
// a row or column with equal bounds is an equation or a constant.
struct Problem {
  Sense sense = Sense::minimise;
  std::vector<double> cost, low, high;    // (columns)
  std::vector<double> row_low, row_high;  // (rows)
  std::vector<int> starts = {0};          // (rows + 1) into index and value
  std::vector<int> index;                 // column of each entry
  std::vector<double> value;

  int columns() const { return static_cast<int>(cost.size()); }
  int rows() const { return static_cast<int>(row_low.size()); }
  double objective(std::span<const double> x) const;
  double activity(int row, std::span<const double> x) const;
};

struct Solution {
  Outcome outcome = Outcome::doubtful;
  std::string text;
  double objective = 0;       // cost.x
  std::vector<double> x;      // (columns); where the solver stood, if not optimal; empty: nothing yet
  std::vector<double> duals;  // (rows); change of the optimum by each row's bound; empty for mixed-integer
  double violation = 0;       // largest of rows and bounds at x, relative (violation() below)
  double gap = 0;             // |objective - bound| / max(1, |objective|)
  int64_t iterations = 0;     // of the simplex method
  int64_t nodes = 0;          // of branch and bound
  double seconds = 0;
  bool optimal() const { return outcome == Outcome::optimal; }
};

// The checks, all in double and independent of the solver.

// Largest violation at x of any bound or row, over max(1, |bound|, largest |entry * x|) of that row.
double violation(const Problem& problem, std::span<const double> x);
// The bound on the optimum that row duals prove (signs of a minimisation, whatever the sense): lower for
// minimise, upper for maximise. A reduced cost at an infinite bound counts with x as long as it is below
// `tolerance` times its terms; beyond, the bound is infinite.
double dual_bound(const Problem& problem, std::span<const double> duals, std::span<const double> x,
                  double tolerance = 1e-6);
// Whether `multipliers` of the rows prove that no point meets them all within the column bounds (and, where a
// column has none and rounding blurs the proof, within 1e4 of zero).
bool proves_infeasible(const Problem& problem, std::span<const double> multipliers);
// Whether the objective improves along `direction` from any feasible point for ever.
bool proves_unbounded(const Problem& problem, std::span<const double> direction);

}  // namespace harness::lp
