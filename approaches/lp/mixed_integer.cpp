#include "approaches/lp/mixed_integer.hpp"

#include <CbcEventHandler.hpp>
#include <CbcHeuristic.hpp>
#include <CbcModel.hpp>
#include <CglGomory.hpp>
#include <CglMixedIntegerRounding2.hpp>
#include <CglProbing.hpp>
#include <OsiClpSolverInterface.hpp>
#include <algorithm>
#include <cmath>
#include <new>

#include "approaches/lp/watch.hpp"
#include "harness/core/error.hpp"

namespace harness::lp {
namespace {

constexpr double kWhole = 1e-6;     // a value this close to a whole number is one
constexpr double kFeasible = 1e-6;  // relative, of rows and bounds
constexpr double kGap = 1e-6;       // relative, between the best point and the bound

class StopHandler : public CbcEventHandler {
 public:
  explicit StopHandler(Watch& watch) : watch_(&watch) {}
  CbcAction event(CbcEvent) override { return watch_->over() ? stop : noAction; }
  CbcEventHandler* clone() const override { return new StopHandler(*this); }

 private:
  Watch* watch_;
};

void load(OsiClpSolverInterface& solver, const Problem& problem, std::span<const int> integers) {
  const bool maximise = problem.sense == Sense::maximise;
  std::vector<double> costs(problem.cost);
  if (maximise) std::ranges::transform(costs, costs.begin(), [](double cost) { return -cost; });
  const std::vector<CoinBigIndex> starts(problem.starts.begin(), problem.starts.end());
  CoinPackedMatrix matrix(false, problem.columns(), problem.rows(),
                          static_cast<CoinBigIndex>(problem.value.size()), problem.value.data(),
                          problem.index.data(), starts.data(), nullptr);
  solver.loadProblem(matrix, problem.low.data(), problem.high.data(), costs.data(), problem.row_low.data(),
                     problem.row_high.data());
  for (const int column : integers) {
    if (column < 0 || column >= problem.columns())
      interface_misuse("mixed-integer program: no column " + std::to_string(column));
    solver.setInteger(column);
  }
  solver.messageHandler()->setLogLevel(0);
  solver.getModelPtr()->setLogLevel(0);
}

// Rounds the integer columns of x. False where one of them is not close to a whole number.
bool round_integers(std::vector<double>& x, std::span<const int> integers) {
  for (const int column : integers) {
    const double whole = std::round(x[column]);
    if (std::abs(x[column] - whole) > kWhole) return false;
    x[column] = whole;
  }
  return true;
}

void interpret(const CbcModel& model, const Problem& problem, std::span<const int> integers,
               Solution& solution) {
  solution.iterations = model.getIterationCount();
  solution.nodes = model.getNodeCount();
  bool good = false;
  if (model.bestSolution() != nullptr) {
    solution.x.assign(model.bestSolution(), model.bestSolution() + problem.columns());
    for (int j = 0; j < problem.columns(); ++j)
      solution.x[j] = std::clamp(solution.x[j], problem.low[j], problem.high[j]);
    good = round_integers(solution.x, integers);
    solution.violation = violation(problem, solution.x);
    good = good && solution.violation <= kFeasible;
    solution.objective = problem.objective(solution.x);
    const double bound =
        problem.sense == Sense::maximise ? -model.getBestPossibleObjValue() : model.getBestPossibleObjValue();
    solution.gap = std::abs(solution.objective - bound) / std::max(1.0, std::abs(solution.objective));
  }
  if (model.isProvenOptimal() && good && solution.gap <= kGap) {
    solution.outcome = Outcome::optimal;
  } else if (model.bestSolution() != nullptr && !good) {
    solution.text = "the best point does not pass: violation " + std::to_string(solution.violation);
    solution.x.clear();
  } else if (model.isProvenInfeasible()) {
    solution.outcome = Outcome::infeasible;
    solution.text = "no point meets all rows with whole numbers";
  } else if (model.isContinuousUnbounded()) {
    solution.outcome = Outcome::unbounded;
    solution.text = "without whole numbers the objective has no bound";
  } else {
    solution.text = "the solver gave up with status " + std::to_string(model.status());
  }
}

}  // namespace

Solution solve_mixed_integer(const Problem& problem, std::span<const int> integers, const Limits& limits) {
  Watch watch(limits);
  Solution solution;
  // There are at least four copies of the program: of the solver, the root, the cuts and the best node.
  if (limits.bytes > 0 &&
      150 * problem.value.size() + 1200 * (problem.cost.size() + problem.row_low.size()) > limits.bytes) {
    solution.outcome = Outcome::memory_limit;
  } else if (watch.over()) {
    solution.outcome = watch.why();
  } else {
    try {
      OsiClpSolverInterface solver;
      load(solver, problem, integers);
      CbcModel model(solver);
      model.setLogLevel(0);
      model.messageHandler()->setLogLevel(0);
      model.solver()->messageHandler()->setLogLevel(0);
      const StopHandler handler(watch);
      model.passInEventHandler(&handler);
      model.setUseElapsedTime(true);
      if (std::isfinite(limits.seconds)) model.setMaximumSeconds(watch.seconds_left());
      model.setIntegerTolerance(1e-7);
      model.setAllowableGap(0);
      model.setAllowableFractionGap(0);
      CglProbing probing;
      probing.setUsingObjective(1);
      CglGomory gomory;
      CglMixedIntegerRounding2 rounding;
      model.addCutGenerator(&probing, -1, "probing");
      model.addCutGenerator(&gomory, -1, "gomory");
      model.addCutGenerator(&rounding, -1, "rounding");
      CbcRounding heuristic(model);
      model.addHeuristic(&heuristic, "rounding");
      model.branchAndBound();
      interpret(model, problem, integers, solution);
      if (!solution.optimal() && watch.over()) {
        solution.outcome = watch.why();
        solution.text.clear();
      }
    } catch (const std::bad_alloc&) {
      solution = {};
      solution.outcome = Outcome::memory_limit;
    }
  }
  if (solution.text.empty() && !solution.optimal()) solution.text = limit_text(solution.outcome, limits);
  solution.seconds = watch.seconds();
  return solution;
}

}  // namespace harness::lp
