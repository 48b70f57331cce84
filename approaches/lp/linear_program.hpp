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
  size_t bytes = 0;            // memory that the solve may add to what is in use; 0: any
  Stop stop = {};              // checked about 20 times a second
};

// The state of every column and row, from which a solve may start. Opaque; may be stored.
using Basis = std::vector<uint8_t>;

// A linear program on COIN-OR CLP. It may be changed and solved again, starting from the last solution. A
// result is a function of all calls so far, and a copy continues in the same way. One thread at a time for
// an object; different objects are independent. Misuse (a number out of range, a lower bound above the upper
// one, NaN) aborts.
class LinearProgram {
 public:
  explicit LinearProgram(Sense sense = Sense::minimise);
  LinearProgram(const LinearProgram&);
  LinearProgram(LinearProgram&&) noexcept;
  LinearProgram& operator=(LinearProgram&&) noexcept;
  ~LinearProgram();

  // These return the number of the (first) new column or row. The columns of a row are distinct; zeros are
  // dropped.
  int add_column(double low, double high, double cost = 0);
  int add_columns(int count, double low, double high, double cost = 0);
  int add_row(std::span<const int> columns, std::span<const double> values, double low, double high);
  int add_dense_row(int first_column, std::span<const double> values, double low, double high);
  void set_cost(int column, double cost);
  void set_costs(std::span<const double> costs);  // (columns)
  void set_column_bounds(int column, double low, double high);
  void set_row_bounds(int row, double low, double high);
  void set_sense(Sense sense);

  // The first solve starts from the slack basis, later ones from the last basis.
  Solution solve(const Limits& limits = {}, Method method = Method::automatic);
  Basis basis() const;
  void set_basis(const Basis& basis);  // newer rows are basic, newer columns at a bound

  const Problem& problem() const;
  // An estimate of the memory that a solve adds to that of the problem.
  size_t bytes_needed() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> self_;
};

}  // namespace harness::lp
