#include "approaches/lp/linear_program.hpp"

#include <ClpEventHandler.hpp>
#include <ClpSimplex.hpp>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <sstream>

#include "approaches/lp/watch.hpp"
#include "harness/core/error.hpp"

namespace harness::lp {
namespace {

// An answer counts only within these: relative violation of rows and bounds, and relative duality gap.
constexpr double kFeasible = 1e-6;
constexpr double kGap = 1e-6;

class StopHandler : public ClpEventHandler {
 public:
  explicit StopHandler(Watch& watch) : watch_(&watch) {}
  int event(Event which) override {
    if (which != endOfIteration && which != endOfFactorization) return -1;
    return watch_->over() ? 1 : -1;
  }
  ClpEventHandler* clone() const override { return new StopHandler(*this); }

 private:
  Watch* watch_;
};

void check_bounds(double low, double high) {
  if (!(low <= high) || low == kInfinity || high == -kInfinity)
    interface_misuse("linear program: bounds " + std::to_string(low) + " and " + std::to_string(high));
}

void check_number(int number, int count, const char* what) {
  if (number < 0 || number >= count)
    interface_misuse(std::string("linear program: no ") + what + " " + std::to_string(number));
}

void check_finite(double value) {
  if (!std::isfinite(value)) interface_misuse("linear program: a cost or entry is not finite");
}

// A program in which rows may be violated at a cost. It is always feasible, and its duals prove that the
// problem is not.
LinearProgram elastic(const Problem& problem) {
  LinearProgram program;
  for (int j = 0; j < problem.columns(); ++j) program.add_column(problem.low[j], problem.high[j]);
  for (int row = 0; row < problem.rows(); ++row) {
    const int first = program.add_columns(2, 0, kInfinity, 1);
    std::vector<int> columns(problem.index.begin() + problem.starts[row],
                             problem.index.begin() + problem.starts[row + 1]);
    std::vector<double> values(problem.value.begin() + problem.starts[row],
                               problem.value.begin() + problem.starts[row + 1]);
    columns.insert(columns.end(), {first, first + 1});
    values.insert(values.end(), {1, -1});
    program.add_row(columns, values, problem.row_low[row], problem.row_high[row]);
  }
  return program;
}

std::string sized(const char* text, double size) {
  std::ostringstream out;
  out << text << size;
  return out.str();
}

}  // namespace

struct LinearProgram::Implementation {
  Problem problem;
  ClpSimplex model;  // always a minimisation
  bool costs_changed = false, bounds_changed = false, last_optimal = false;

  explicit Implementation(Sense sense) {
    problem.sense = sense;
    model.setLogLevel(0);
  }

  double turned(double cost) const { return problem.sense == Sense::minimise ? cost : -cost; }

  // Hands over to Clp what has been added since the last solve.
  void push() {
    const int columns = model.numberColumns(), more = problem.columns() - columns;
    if (more > 0) {
      std::vector<double> costs(more);
      for (int k = 0; k < more; ++k) costs[k] = turned(problem.cost[columns + k]);
      const std::vector<CoinBigIndex> starts(more + 1, 0);
      const int no_row = 0;
      const double no_value = 0;
      model.addColumns(more, &problem.low[columns], &problem.high[columns], costs.data(), starts.data(),
                       &no_row, &no_value);
      costs_changed = true;
    }
    const int rows = model.numberRows(), more_rows = problem.rows() - rows;
    if (more_rows > 0) {
      const int begin = problem.starts[rows];
      std::vector<CoinBigIndex> starts(more_rows + 1);
      for (int k = 0; k <= more_rows; ++k) starts[k] = problem.starts[rows + k] - begin;
      model.addRows(more_rows, &problem.row_low[rows], &problem.row_high[rows], starts.data(),
                    problem.index.data() + begin, problem.value.data() + begin);
      bounds_changed = true;
    }
  }

  // Without rows every column goes to its better bound.
  Solution solve_without_rows() const {
    Solution solution;
    solution.outcome = Outcome::optimal;
    for (int j = 0; j < problem.columns(); ++j) {
      const double cost = turned(problem.cost[j]), low = problem.low[j], high = problem.high[j];
      double x = cost > 0 ? low : cost < 0 ? high : std::clamp(0.0, low, high);
      if (!std::isfinite(x)) {
        solution.outcome = Outcome::unbounded;
        solution.text = "column " + std::to_string(j) + " has no bound";
        x = std::clamp(0.0, low, high);
      }
      solution.x.push_back(x);
    }
    solution.objective = problem.objective(solution.x);
    return solution;
  }

  void run(Method method, Watch& watch) {
    const StopHandler handler(watch);
    model.passInEventHandler(&handler);
    if (method == Method::dual)
      model.dual();
    else
      model.primal();
    const ClpEventHandler none;  // the watch does not outlive the solve
    model.passInEventHandler(&none);
  }

  Solution interpret(Watch& watch, const Limits& limits) {
    Solution solution;
    solution.x.assign(model.primalColumnSolution(), model.primalColumnSolution() + problem.columns());
    solution.iterations = model.numberIterations();
    solution.objective = problem.objective(solution.x);
    solution.violation = violation(problem, solution.x);
    const int status = model.status();
    if (watch.over() && status != 0) {
      solution.outcome = watch.why();
      solution.text = limit_text(watch.why(), limits);
    } else if (status == 0) {
      accept_optimum(solution);
    } else if (status == 1) {
      accept_infeasible(solution, watch, limits);
    } else if (status == 2) {
      const std::unique_ptr<double[]> ray(model.unboundedRay());
      const bool proved = ray && proves_unbounded(problem, {ray.get(), solution.x.size()});
      if (proved && solution.violation <= kFeasible) {
        solution.outcome = Outcome::unbounded;
        solution.text = "the objective has no bound";
      } else {
        solution.text =
            proved ? sized("unbounded, but the point it starts from is violated by ", solution.violation)
                   : "unbounded, but the direction does not prove it";
      }
    } else {
      solution.text = "the solver gave up with status " + std::to_string(status);
    }
    return solution;
  }

  void accept_optimum(Solution& solution) const {
    // Clp may end slightly outside of a bound, so x is moved back.
    for (int j = 0; j < problem.columns(); ++j)
      solution.x[j] = std::clamp(solution.x[j], problem.low[j], problem.high[j]);
    solution.objective = problem.objective(solution.x);
    solution.violation = std::max(solution.violation, violation(problem, solution.x));
    for (int row = 0; row < problem.rows(); ++row)
      solution.duals.push_back(turned(model.dualRowSolution()[row]));
    const double bound = dual_bound(problem, solution.duals, solution.x);
    solution.gap = std::abs(solution.objective - bound) / std::max(1.0, std::abs(solution.objective));
    if (!(solution.violation <= kFeasible))
      solution.text = sized("a row or bound is violated by ", solution.violation);
    else if (!(solution.gap <= kGap))
      solution.text = sized("the duality gap is ", solution.gap);
    else
      solution.outcome = Outcome::optimal;
  }

  void accept_infeasible(Solution& solution, Watch& watch, const Limits& limits) const {
    bool proved = false;
    if (const std::unique_ptr<double[]> ray(model.infeasibilityRay()); ray) {
      std::vector<double> y(ray.get(), ray.get() + problem.rows());
      proved = proves_infeasible(problem, y);
      for (double& value : y) value = -value;  // its sign depends on the method
      proved = proved || proves_infeasible(problem, y);
    }
    if (!proved) {
      Limits rest = limits;
      rest.seconds = watch.seconds_left();
      LinearProgram program = elastic(problem);
      const Solution of_elastic = program.solve(rest, Method::primal);
      solution.iterations += of_elastic.iterations;
      if (of_elastic.outcome == Outcome::time_limit || of_elastic.outcome == Outcome::stopped ||
          of_elastic.outcome == Outcome::memory_limit) {
        solution.outcome = of_elastic.outcome;
        solution.text = limit_text(of_elastic.outcome, limits);
        return;
      }
      proved = of_elastic.optimal() && proves_infeasible(problem, of_elastic.duals);
    }
    solution.outcome = proved ? Outcome::infeasible : Outcome::doubtful;
    solution.text = proved ? "no point meets all rows" : "infeasible, but no combination of rows proves it";
  }
};

LinearProgram::LinearProgram(Sense sense) : self_(std::make_unique<Implementation>(sense)) {}
LinearProgram::LinearProgram(const LinearProgram& other)
    : self_(std::make_unique<Implementation>(*other.self_)) {}
LinearProgram::LinearProgram(LinearProgram&&) noexcept = default;
LinearProgram& LinearProgram::operator=(LinearProgram&&) noexcept = default;
LinearProgram::~LinearProgram() = default;

int LinearProgram::add_column(double low, double high, double cost) {
  return add_columns(1, low, high, cost);
}

int LinearProgram::add_columns(int count, double low, double high, double cost) {
  check_bounds(low, high);
  check_finite(cost);
  Problem& problem = self_->problem;
  const int first = problem.columns();
  problem.cost.insert(problem.cost.end(), count, cost);
  problem.low.insert(problem.low.end(), count, low);
  problem.high.insert(problem.high.end(), count, high);
  return first;
}

int LinearProgram::add_row(std::span<const int> columns, std::span<const double> values, double low,
                           double high) {
  check_bounds(low, high);
  if (columns.size() != values.size()) interface_misuse("linear program: a row of two lengths");
  Problem& problem = self_->problem;
  for (size_t k = 0; k < columns.size(); ++k) {
    check_number(columns[k], problem.columns(), "column");
    check_finite(values[k]);
    if (values[k] == 0) continue;
    problem.index.push_back(columns[k]);
    problem.value.push_back(values[k]);
  }
  if (problem.index.size() > static_cast<size_t>(std::numeric_limits<int>::max()))
    interface_misuse("linear program: more entries than an int counts");
  problem.starts.push_back(static_cast<int>(problem.index.size()));
  problem.row_low.push_back(low);
  problem.row_high.push_back(high);
  return problem.rows() - 1;
}

int LinearProgram::add_dense_row(int first_column, std::span<const double> values, double low, double high) {
  std::vector<int> columns(values.size());
  for (size_t k = 0; k < values.size(); ++k) columns[k] = first_column + static_cast<int>(k);
  return add_row(columns, values, low, high);
}

void LinearProgram::set_cost(int column, double cost) {
  check_number(column, problem().columns(), "column");
  check_finite(cost);
  self_->problem.cost[column] = cost;
  self_->costs_changed = true;
  if (column < self_->model.numberColumns())
    self_->model.setObjectiveCoefficient(column, self_->turned(cost));
}

void LinearProgram::set_costs(std::span<const double> costs) {
  if (static_cast<int>(costs.size()) != problem().columns())
    interface_misuse("linear program: another number of costs than columns");
  for (int j = 0; j < problem().columns(); ++j) {
    if (costs[j] != problem().cost[j]) set_cost(j, costs[j]);
  }
}

void LinearProgram::set_column_bounds(int column, double low, double high) {
  check_number(column, problem().columns(), "column");
  check_bounds(low, high);
  self_->problem.low[column] = low;
  self_->problem.high[column] = high;
  self_->bounds_changed = true;
  if (column < self_->model.numberColumns()) self_->model.setColumnBounds(column, low, high);
}

void LinearProgram::set_row_bounds(int row, double low, double high) {
  check_number(row, problem().rows(), "row");
  check_bounds(low, high);
  self_->problem.row_low[row] = low;
  self_->problem.row_high[row] = high;
  self_->bounds_changed = true;
  if (row < self_->model.numberRows()) self_->model.setRowBounds(row, low, high);
}

void LinearProgram::set_sense(Sense sense) {
  if (sense == problem().sense) return;
  self_->problem.sense = sense;
  for (int j = 0; j < self_->model.numberColumns(); ++j)
    self_->model.setObjectiveCoefficient(j, self_->turned(problem().cost[j]));
  self_->costs_changed = true;
}

Solution LinearProgram::solve(const Limits& limits, Method method) {
  Implementation& self = *self_;
  Watch watch(limits);
  Solution solution;
  if (limits.bytes > 0 && bytes_needed() > limits.bytes) {
    solution.outcome = Outcome::memory_limit;
  } else if (watch.over()) {
    solution.outcome = watch.why();
  } else if (problem().rows() == 0) {
    solution = self.solve_without_rows();
  } else {
    try {
      self.push();
      if (method == Method::automatic)
        method =
            self.last_optimal && self.bounds_changed && !self.costs_changed ? Method::dual : Method::primal;
      self.run(method, watch);
      solution = self.interpret(watch, limits);
      if (solution.outcome == Outcome::doubtful) {
        // Once more from the slack basis, by the other method and without scaling.
        const int64_t before = solution.iterations;
        const int scaling = self.model.scalingFlag();
        self.model.scaling(0);
        self.model.allSlackBasis(true);
        self.run(method == Method::dual ? Method::primal : Method::dual, watch);
        solution = self.interpret(watch, limits);
        solution.iterations += before;
        self.model.scaling(scaling);
      }
    } catch (const std::bad_alloc&) {
      solution = {};
      solution.outcome = Outcome::memory_limit;
    }
    self.costs_changed = self.bounds_changed = false;
    self.last_optimal = solution.optimal();
  }
  if (solution.text.empty() && !solution.optimal()) solution.text = limit_text(solution.outcome, limits);
  solution.seconds = watch.seconds();
  return solution;
}

Basis LinearProgram::basis() const {
  const ClpSimplex& model = self_->model;
  if (!model.statusExists()) return {};
  // The number of columns comes first, so that rows are found again after columns have been added.
  const auto columns = static_cast<uint32_t>(model.numberColumns());
  Basis basis(sizeof(columns));
  std::memcpy(basis.data(), &columns, sizeof(columns));
  basis.insert(basis.end(), model.statusArray(), model.statusArray() + columns + model.numberRows());
  return basis;
}

void LinearProgram::set_basis(const Basis& basis) {
  // The model is built anew, so that of all earlier solves only the basis has an effect on the next one.
  auto fresh = std::make_unique<Implementation>(problem().sense);
  fresh->problem = std::move(self_->problem);
  self_ = std::move(fresh);
  self_->push();
  if (basis.empty()) return;
  ClpSimplex& model = self_->model;
  uint32_t columns = 0;
  const size_t header = sizeof(columns);
  if (basis.size() >= header) std::memcpy(&columns, basis.data(), header);
  const size_t states = basis.size() - header;
  if (basis.size() < header || states < columns || columns > static_cast<size_t>(model.numberColumns()) ||
      states - columns > static_cast<size_t>(model.numberRows()))
    interface_misuse("linear program: a basis of another program");
  model.createStatus();  // newer columns are at a bound, newer rows basic
  const auto rows = basis.begin() + static_cast<ptrdiff_t>(header + columns);
  std::copy(basis.begin() + header, rows, model.statusArray());
  std::copy(rows, basis.end(), model.statusArray() + model.numberColumns());
  self_->last_optimal = true;
  self_->costs_changed = false;
  self_->bounds_changed = true;
}

const Problem& LinearProgram::problem() const {
  return self_->problem;
}

size_t LinearProgram::bytes_needed() const {
  // Entries by column, by row, scaled, and the factors of the basis; bounds, costs, work space.
  const auto entries = problem().value.size();
  const auto lines = static_cast<size_t>(problem().rows()) + static_cast<size_t>(problem().columns());
  return 48 * entries + 300 * lines;
}

}  // namespace harness::lp
