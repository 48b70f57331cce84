#include "approaches/lp/max_rows.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "approaches/lp/watch.hpp"

namespace harness::lp {

MaxRows satisfy_max_rows(int size, std::span<const Row> hard, std::span<const Row> soft, double bound,
                         const Limits& limits) {
  const Watch watch(limits);
  MaxRows result;
  LinearProgram program;
  program.add_columns(size, -bound, bound);
  for (const Row& row : hard) program.add_dense_row(0, row.values, row.min_value, kInfinity);
  std::vector<int> binaries, columns(size);
  std::iota(columns.begin(), columns.end(), 0);
  for (const Row& row : soft) {
    double reach = 0;  // the left side is at least -reach
    for (const double value : row.values) reach += bound * std::abs(value);
    const double relief = row.min_value + reach;
    if (relief <= 0) continue;  // always met
    // The row always holds where its binary column is 1.
    binaries.push_back(program.add_column(0, 1, 1));
    std::vector<int> with = columns;
    std::vector<double> values = row.values;
    with.push_back(binaries.back());
    values.push_back(relief);
    program.add_row(with, values, row.min_value, kInfinity);
  }
  Solution found = solve_mixed_integer(program.problem(), binaries, limits);
  result.outcome = found.outcome;
  result.text = found.text;
  result.programs = 1;
  result.nodes = found.nodes;
  const bool in_time = found.optimal() || found.outcome == Outcome::time_limit;
  if (!in_time || found.x.empty()) return result;
  result.violated = static_cast<int>(std::lround(found.objective));
  result.s.assign(found.x.begin(), found.x.begin() + size);

  for (const int b : binaries) program.set_cost(b, 0);
  if (!binaries.empty())
    program.add_row(binaries, std::vector<double>(binaries.size(), 1), -kInfinity, result.violated);
  for (int k = 0; k < size; ++k) {
    const int absolute = program.add_column(0, bound, 1);
    program.add_row(std::vector{absolute, k}, std::vector{1.0, 1.0}, 0, kInfinity);
    program.add_row(std::vector{absolute, k}, std::vector{1.0, -1.0}, 0, kInfinity);
  }
  Limits rest = limits;
  rest.seconds = watch.seconds_left();
  found = solve_mixed_integer(program.problem(), binaries, rest);
  ++result.programs;
  result.nodes += found.nodes;
  if (found.outcome == Outcome::stopped) {
    result.outcome = found.outcome;
    result.text = found.text;
    result.s.clear();
    return result;
  }
  result.least = found.optimal();
  if (result.least) result.s.assign(found.x.begin(), found.x.begin() + size);
  return result;
}

}  // namespace harness::lp
