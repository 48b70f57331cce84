#include <chrono>
#include <cmath>

#include "approaches/lp/linear_program.hpp"
#include "approaches/lp/mixed_integer.hpp"
#include "harness/core/clock.hpp"
#include "harness/core/random.hpp"
#include "tests/support.hpp"

namespace harness::lp {
namespace {

// max 3x + 2y, x + y <= 4, x + 3y <= 6, 0 <= x <= 3, y >= 0: optimum 11 at (3, 1).
LinearProgram textbook(Sense sense = Sense::maximise) {
  LinearProgram program(sense);
  const double sign = sense == Sense::maximise ? 1 : -1;
  const int x = program.add_column(0, 3, 3 * sign), y = program.add_column(0, kInfinity, 2 * sign);
  program.add_row(std::vector{x, y}, std::vector{1.0, 1.0}, -kInfinity, 4);
  program.add_row(std::vector{x, y}, std::vector{1.0, 3.0}, -kInfinity, 6);
  return program;
}

// Dense random rows a.x >= b around a feasible point, box [-1, 1], random costs.
LinearProgram random_program(uint64_t seed, int columns, int rows) {
  RandomStream random(seed);
  LinearProgram program;
  std::vector<double> inside(columns), row(columns);
  for (double& value : inside) value = random.uniform(-0.5, 0.5);
  for (int j = 0; j < columns; ++j) program.add_column(-1, 1, random.normal());
  for (int i = 0; i < rows; ++i) {
    double at = 0;
    for (int j = 0; j < columns; ++j) {
      row[j] = random.normal();
      at += row[j] * inside[j];
    }
    program.add_dense_row(0, row, at - random.uniform(0, 0.3), kInfinity);
  }
  return program;
}

// The best corner by trying every choice of tight lines; two columns only.
double brute_force(const Problem& problem) {
  struct Line {
    double a, b, c;
  };
  std::vector<Line> lines = {
      {1, 0, problem.low[0]}, {1, 0, problem.high[0]}, {0, 1, problem.low[1]}, {0, 1, problem.high[1]}};
  for (int row = 0; row < problem.rows(); ++row)
    lines.push_back({problem.value[2 * row], problem.value[2 * row + 1], problem.row_low[row]});
  double best = kInfinity;
  for (size_t i = 0; i < lines.size(); ++i) {
    for (size_t k = i + 1; k < lines.size(); ++k) {
      const double determinant = lines[i].a * lines[k].b - lines[i].b * lines[k].a;
      if (std::abs(determinant) < 1e-12) continue;
      const std::vector<double> x = {(lines[i].c * lines[k].b - lines[i].b * lines[k].c) / determinant,
                                     (lines[i].a * lines[k].c - lines[i].c * lines[k].a) / determinant};
      if (violation(problem, x) < 1e-9) best = std::min(best, problem.objective(x));
    }
  }
  return best;
}

TEST_CASE("a linear program of the textbook, either sense and method", "[lp]") {
  for (const Method method : {Method::primal, Method::dual}) {
    for (const Sense sense : {Sense::maximise, Sense::minimise}) {
      LinearProgram program = textbook(sense);
      const Solution solution = program.solve({}, method);
      const double sign = sense == Sense::maximise ? 1 : -1;
      REQUIRE(solution.optimal());
      REQUIRE(solution.objective == Approx(11 * sign));
      REQUIRE(solution.x[0] == Approx(3));
      REQUIRE(solution.x[1] == Approx(1));
      REQUIRE(solution.violation < 1e-9);
      REQUIRE(solution.gap < 1e-9);
      REQUIRE(dual_bound(program.problem(), solution.duals, solution.x) == Approx(11 * sign));
      // One unit more of the first row would be worth 2, the second is both slack or degenerate.
      REQUIRE(solution.duals[0] + 3 * solution.duals[1] == Approx(2 * sign));
    }
  }
}

TEST_CASE("linear programs of two columns agree with all corners", "[lp]") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    LinearProgram program = random_program(seed, 2, 5);
    const Solution solution = program.solve();
    INFO("seed " << seed);
    REQUIRE(solution.optimal());
    REQUIRE(solution.objective == Approx(brute_force(program.problem())).epsilon(1e-9).margin(1e-9));
  }
}

TEST_CASE("rows, costs, bounds and columns may come later", "[lp]") {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    LinearProgram whole = random_program(seed, 30, 60);
    const Problem target = whole.problem();
    const Solution expected = whole.solve();
    // The same program in pieces, with solves in between and wrong costs and bounds at first.
    LinearProgram lazy;
    lazy.add_columns(20, -3, 3, 1);
    lazy.add_columns(10, -1, 1, -1);
    int64_t iterations = 0;
    for (int row = 0; row < target.rows(); ++row) {
      const auto from = target.starts[row], count = target.starts[row + 1] - from;
      lazy.add_row({&target.index[from], static_cast<size_t>(count)},
                   {&target.value[from], static_cast<size_t>(count)}, target.row_low[row] - 0.5, kInfinity);
      if (row % 10 == 9) {
        const Solution part = lazy.solve();
        REQUIRE(part.optimal());
        iterations += part.iterations;
      }
    }
    lazy.set_costs(target.cost);
    REQUIRE(lazy.solve().optimal());
    for (int j = 0; j < 20; ++j) lazy.set_column_bounds(j, -1, 1);
    for (int row = 0; row < target.rows(); ++row) lazy.set_row_bounds(row, target.row_low[row], kInfinity);
    const Solution last = lazy.solve();
    REQUIRE(last.optimal());
    REQUIRE(last.objective == Approx(expected.objective).epsilon(1e-9));
    REQUIRE(lazy.solve().iterations == 0);  // from where it was
    const int slack = lazy.add_column(0, 1, 100);
    const std::vector<int> columns = {0, 1, slack};
    lazy.add_row(columns, std::vector{1.0, 1.0, 1.0}, -kInfinity, 10);
    const Solution same = lazy.solve();
    REQUIRE(same.objective == Approx(expected.objective).epsilon(1e-9));
    REQUIRE(iterations > 0);
  }
}

TEST_CASE("another objective over the same rows, from the last basis", "[lp]") {
  LinearProgram program = random_program(3, 40, 80);
  const Solution first = program.solve();
  RandomStream random(4);
  int64_t warm = 0, cold = 0;
  for (int round = 0; round < 5; ++round) {
    std::vector<double> costs = program.problem().cost;
    for (double& cost : costs) cost += 0.1 * random.normal();
    program.set_costs(costs);
    program.set_sense(round % 2 ? Sense::maximise : Sense::minimise);
    program.set_sense(Sense::minimise);
    const Solution found = program.solve();
    LinearProgram fresh = random_program(3, 40, 80);
    fresh.set_costs(costs);
    const Solution expected = fresh.solve();
    REQUIRE(found.optimal());
    REQUIRE(found.objective == Approx(expected.objective).epsilon(1e-9));
    warm += found.iterations;
    cold += expected.iterations;
  }
  REQUIRE(warm < cold);
  program.set_sense(Sense::maximise);
  const Solution maximum = program.solve();
  REQUIRE(maximum.optimal());
  REQUIRE(maximum.objective > first.objective);
  REQUIRE(maximum.gap < 1e-6);
}

TEST_CASE("bases can be kept and copies go on alike", "[lp]") {
  LinearProgram program = random_program(7, 40, 80);
  const Solution solution = program.solve();
  const Basis basis = program.basis();
  LinearProgram other = random_program(7, 40, 80);
  other.set_basis(basis);
  const Solution again = other.solve();
  REQUIRE(again.optimal());
  REQUIRE(again.iterations == 0);
  REQUIRE(again.objective == Approx(solution.objective).epsilon(1e-12));
  // Later columns and rows do not spoil it.
  LinearProgram grown = random_program(7, 40, 80);
  const int late = grown.add_column(0, 1, 100);
  grown.add_row(std::vector{0, late}, std::vector{1.0, 1.0}, -kInfinity, 50);
  grown.set_basis(basis);
  const Solution same = grown.solve();
  REQUIRE(same.optimal());
  REQUIRE(same.iterations <= 1);
  REQUIRE(same.objective == Approx(solution.objective).epsilon(1e-12));
  LinearProgram copy = program;
  for (LinearProgram* each : {&program, &copy}) {
    each->set_cost(0, 5);
    each->add_dense_row(0, std::vector(40, 1.0), -0.25, 0.25);
  }
  const Solution one = program.solve(), two = copy.solve();
  REQUIRE(one.optimal());
  REQUIRE(one.x == two.x);
  REQUIRE(one.iterations == two.iterations);
  // The same basis and problem give the same bits, whatever was solved before.
  const Basis kept = program.basis();
  program.set_basis(kept);
  LinearProgram third = random_program(7, 40, 80);
  third.set_cost(0, 5);
  third.add_dense_row(0, std::vector(40, 1.0), -0.25, 0.25);
  third.set_basis(kept);
  for (LinearProgram* each : {&program, &third}) each->set_cost(1, -3);
  REQUIRE(program.solve().x == third.solve().x);
}

TEST_CASE("infeasible and unbounded programs are told apart, with proofs", "[lp]") {
  for (const Method method : {Method::primal, Method::dual}) {
    LinearProgram none = textbook();
    none.add_row(std::vector{0, 1}, std::vector{1.0, 1.0}, 5, kInfinity);
    const Solution infeasible = none.solve({}, method);
    REQUIRE(infeasible.outcome == Outcome::infeasible);
    REQUIRE_FALSE(infeasible.text.empty());

    LinearProgram open = textbook();
    open.set_row_bounds(0, -kInfinity, kInfinity);
    open.set_row_bounds(1, 1, kInfinity);
    const Solution unbounded = open.solve({}, method);
    REQUIRE(unbounded.outcome == Outcome::unbounded);
  }
  LinearProgram bare(Sense::maximise);
  bare.add_column(0, kInfinity, 1);
  REQUIRE(bare.solve().outcome == Outcome::unbounded);
  bare.set_column_bounds(0, 0, 2);
  REQUIRE(bare.solve().objective == 2);

  // The proofs themselves. x + y <= 4 and x + y >= 5: the difference of both.
  LinearProgram program = textbook();
  program.add_row(std::vector{0, 1}, std::vector{1.0, 1.0}, 5, kInfinity);
  REQUIRE(proves_infeasible(program.problem(), std::vector{-1.0, 0.0, 1.0}));
  REQUIRE_FALSE(proves_infeasible(program.problem(), std::vector{1.0, 0.0, -1.0}));
  REQUIRE_FALSE(proves_infeasible(program.problem(), std::vector{0.0, -1.0, 1.0}));
  REQUIRE_FALSE(proves_infeasible(program.problem(), std::vector{0.0, 0.0, 0.0}));
  REQUIRE_FALSE(proves_infeasible(textbook().problem(), std::vector{-1.0, 1.0}));
  // Free columns: what the combination leaves of them must be rounding.
  LinearProgram free;
  free.add_columns(2, -kInfinity, kInfinity);
  free.add_row(std::vector{0, 1}, std::vector{1.0, 1.0}, 1, kInfinity);
  free.add_row(std::vector{0, 1}, std::vector{1.0, 1.0}, -kInfinity, 0);
  REQUIRE(proves_infeasible(free.problem(), std::vector{1.0, -1.0}));
  REQUIRE(proves_infeasible(free.problem(), std::vector{1.0, -1.0 - 1e-8}));
  REQUIRE_FALSE(proves_infeasible(free.problem(), std::vector{1.0, -1.001}));
  REQUIRE_FALSE(proves_unbounded(textbook().problem(), std::vector{0.0, 1.0}));
}

TEST_CASE("random infeasible programs", "[lp]") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    LinearProgram program = random_program(seed, 12, 20);
    const Problem problem = program.problem();
    // The first row, turned round and out of reach.
    std::vector<double> row(problem.value.begin(), problem.value.begin() + 12);
    program.add_dense_row(0, row, -kInfinity, problem.row_low[0] - 0.01);
    REQUIRE(program.solve().outcome == Outcome::infeasible);
  }
}

TEST_CASE("checks see what is wrong", "[lp]") {
  LinearProgram program = textbook();
  const Problem& problem = program.problem();
  REQUIRE(violation(problem, std::vector{3.0, 1.0}) == 0);
  REQUIRE(violation(problem, std::vector{3.0, 2.0}) == Approx(3.0 / 6));
  REQUIRE(violation(problem, std::vector{-1.0, 0.0}) == Approx(1.0 / 3));
  REQUIRE(violation(problem, std::vector{std::nan(""), 0.0}) == kInfinity);
  REQUIRE(problem.activity(1, std::vector{3.0, 2.0}) == 9);
  // Any duals give a bound, the optimal ones the best.
  const std::vector<double> x = {3, 1};
  REQUIRE(dual_bound(problem, std::vector{3.0, 0.0}, x) == Approx(12));
  REQUIRE(dual_bound(problem, std::vector{2.0, 0.0}, x) == Approx(11));
  REQUIRE(dual_bound(problem, std::vector{1.0, 0.0}, x) == kInfinity);
  REQUIRE(dual_bound(problem, std::vector{-1.0, 0.0}, x) == kInfinity);
}

TEST_CASE("limits end a solve", "[lp]") {
  LinearProgram program = random_program(5, 300, 600);
  REQUIRE(program.solve({.seconds = 0}).outcome == Outcome::time_limit);
  REQUIRE(program.solve({.bytes = 1000}).outcome == Outcome::memory_limit);
  int polls = 0;
  const Solution stopped = program.solve({.stop = [&] { return ++polls > 1; }});
  REQUIRE(stopped.outcome == Outcome::stopped);
  REQUIRE(polls == 2);
  const auto start = std::chrono::steady_clock::now();
  const Solution late = program.solve({.seconds = 0.02});
  const double seconds = seconds_since(start);
  REQUIRE(late.outcome == Outcome::time_limit);
  REQUIRE(late.text == "not finished within 0.02 s");
  REQUIRE(seconds < 2);
  // And it goes on from there.
  const Solution whole = program.solve();
  REQUIRE(whole.optimal());
  REQUIRE(whole.objective == Approx(random_program(5, 300, 600).solve().objective).epsilon(1e-8));
}

// max sum v.b with one weight row and b in {0, 1}.
struct Knapsack {
  LinearProgram program{Sense::maximise};
  std::vector<int> items;
  double best = 0;
  Knapsack(uint64_t seed, int count) {
    RandomStream random(seed);
    std::vector<double> worth(count), weight(count);
    double total = 0;
    for (int k = 0; k < count; ++k) {
      worth[k] = random.uniform(1, 2);
      weight[k] = random.uniform(1, 2);
      total += weight[k];
      items.push_back(program.add_column(0, 1, worth[k]));
    }
    program.add_row(items, weight, -kInfinity, total / 2);
    for (int set = 0; set < (1 << count); ++set) {
      double value = 0, load = 0;
      for (int k = 0; k < count; ++k) {
        if (set >> k & 1) value += worth[k], load += weight[k];
      }
      if (load <= total / 2) best = std::max(best, value);
    }
  }
};

TEST_CASE("mixed-integer programs agree with all subsets", "[lp]") {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    Knapsack knapsack(seed, 10);
    const Solution solution = solve_mixed_integer(knapsack.program.problem(), knapsack.items);
    REQUIRE(solution.optimal());
    REQUIRE(solution.objective == Approx(knapsack.best));
    for (const double value : solution.x) REQUIRE((value == 0 || value == 1));
    REQUIRE(knapsack.program.solve().objective >= knapsack.best);
  }
  Knapsack knapsack(1, 4);
  knapsack.program.add_row(std::vector{0, 1}, std::vector{2.0, 2.0}, 1, 1);  // whole numbers cannot
  REQUIRE(knapsack.program.solve().optimal());
  REQUIRE(solve_mixed_integer(knapsack.program.problem(), knapsack.items).outcome == Outcome::infeasible);
  REQUIRE(solve_mixed_integer(knapsack.program.problem(), knapsack.items, {.seconds = 0}).outcome ==
          Outcome::time_limit);
  REQUIRE(solve_mixed_integer(knapsack.program.problem(), knapsack.items, {.stop = [] { return true; }})
              .outcome == Outcome::stopped);
  REQUIRE(solve_mixed_integer(knapsack.program.problem(), knapsack.items, {.bytes = 100}).outcome ==
          Outcome::memory_limit);
}

TEST_CASE("mixed-integer programs with other columns, and as a minimisation", "[lp]") {
  // min x + 3 b with x + 2 b >= 1.5, 0 <= x <= 1, b whole: b = 1, x = 0; without whole numbers b = 0.25.
  LinearProgram program;
  const int x = program.add_column(0, 1, 1), b = program.add_column(0, 1, 3);
  program.add_row(std::vector{x, b}, std::vector{1.0, 2.0}, 1.5, kInfinity);
  const Solution whole = solve_mixed_integer(program.problem(), std::vector{b});
  REQUIRE(whole.optimal());
  REQUIRE(whole.objective == Approx(3));
  REQUIRE(whole.x[b] == 1);
  REQUIRE(program.solve().objective == Approx(1.75));
}

}  // namespace
}  // namespace harness::lp
