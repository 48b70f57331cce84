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
  optimal,       // checked: rows and bounds hold, and the dual bound agrees with the objective
  infeasible,    // checked: no point within the bounds meets a certain combination of rows
  unbounded,     // checked: a feasible point, and a direction that improves the objective without end
  time_limit,    // Limits::seconds
  memory_limit,  // Limits::bytes
  stopped,       // Limits::stop
  doubtful,      // the solver's answer does not pass the checks, or it has given up
};
const char* to_text(Outcome outcome);

// Minimise or maximise cost.x, with low <= x <= high and row_low <= A x <= row_high; A is stored by rows.
// Bounds may be infinite. A row with equal bounds is an equation, and such a column a constant.
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
  std::vector<double> x;      // (columns); the solver's last point if not optimal; empty: there is none
  std::vector<double> duals;  // (rows); how the optimum changes with each row's bound; not for integers
  double violation = 0;       // largest relative one at x: violation() below
  double gap = 0;             // |objective - bound| / max(1, |objective|)
  int64_t iterations = 0;     // of the simplex method
  int64_t nodes = 0;          // of branch and bound
  double seconds = 0;
  bool optimal() const { return outcome == Outcome::optimal; }
};

// The checks. All are in double and independent of the solver.

// Largest violation at x of any bound or row, over max(1, |bound|, largest |entry * x|) of that row.
double violation(const Problem& problem, std::span<const double> x);
// The bound on the optimum that the duals of the rows prove: a lower bound for minimise, an upper one for
// maximise. A reduced cost at an infinite bound is taken at x while it is below `tolerance` times its terms;
// else the bound is infinite.
double dual_bound(const Problem& problem, std::span<const double> duals, std::span<const double> x,
                  double tolerance = 1e-6);
// Whether `multipliers` of the rows prove that no point within the column bounds meets all rows. For a column
// without a bound, the proof may hold only for values within 1e4 of zero, because of rounding.
bool proves_infeasible(const Problem& problem, std::span<const double> multipliers);
// Whether the objective improves without end along `direction`, from any feasible point.
bool proves_unbounded(const Problem& problem, std::span<const double> direction);

}  // namespace harness::lp
