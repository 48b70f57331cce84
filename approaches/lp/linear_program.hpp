#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "approaches/lp/problem.hpp"
#include "harness/core/stop.hpp"

namespace harness::lp {

// Which simplex method. `automatic`: dual where the last solve was optimal and only rows or bounds have
// changed since, primal otherwise.
enum class Method { automatic, primal, dual };

struct Limits {
  double seconds = kInfinity;  // wall clock, of one solve
  size_t bytes = 0;            // memory the solve may take beyond what is in use; 0: any
  Stop stop = {};              // polled about 20 times a second; true ends the solve
};

// Where a solve may start from: the state of every column and row. Opaque, may be stored.
using Basis = std::vector<uint8_t>;

// A linear program on COIN-OR CLP that is solved, changed and solved again from where it was. Solves are
// deterministic functions of all calls so far; a copy goes on alike, on its own. One thread at a time per
// object; different objects are independent. Misuse (a number out of range, a bound above its counterpart,
// NaN) aborts.
class LinearProgram {
 public:
  explicit LinearProgram(Sense sense = Sense::minimise);
  LinearProgram(const LinearProgram&);
  LinearProgram(LinearProgram&&) noexcept;
  LinearProgram& operator=(LinearProgram&&) noexcept;
  ~LinearProgram();

  // The number of the (first) new column or row. Columns of an entry are distinct; zeros are dropped.
  int add_column(double low, double high, double cost = 0);
  int add_columns(int count, double low, double high, double cost = 0);
  int add_row(std::span<const int> columns, std::span<const double> values, double low, double high);
  int add_dense_row(int first_column, std::span<const double> values, double low, double high);
  void set_cost(int column, double cost);
  void set_costs(std::span<const double> costs);  // (columns)
  void set_column_bounds(int column, double low, double high);
  void set_row_bounds(int row, double low, double high);
  void set_sense(Sense sense);

  // The first solve starts from the slack basis, later ones from the last.
  Solution solve(const Limits& limits = {}, Method method = Method::automatic);
  Basis basis() const;
  void set_basis(const Basis& basis);  // rows and columns added since it was taken: basic and at a bound

  const Problem& problem() const;
  // About what a solve takes beside the problem itself.
  size_t bytes_needed() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> self_;
};

}  // namespace harness::lp
