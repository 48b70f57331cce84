// Reads one program from standard input and prints outcome, optimum and CPU seconds; lp_compare.py builds and
// feeds it. "lp": sense (1 minimise, -1 maximise), columns, rows, costs, low, high, row low, row high,
// entries. "change": norm (0 linf, 1 l1), features, classes, points, margin, inputs, logits, labels.
#include <cstdio>
#include <ctime>
#include <iostream>
#include <string>

#include "approaches/lp/minimal_change.hpp"

namespace {

using namespace harness::lp;

std::vector<double> read(int count) {
  std::vector<double> values(count);
  std::string word;
  for (double& value : values) {
    std::cin >> word;
    value = std::stod(word);  // "inf" as well
  }
  return values;
}

double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

void print(Outcome outcome, double value, double seconds, int64_t iterations, int rows) {
  std::printf(
      "{\"outcome\": \"%s\", \"value\": %.17g, \"seconds\": %.6f, \"iterations\": %lld, \"rows\": %d}\n",
      to_text(outcome), value, seconds, static_cast<long long>(iterations), rows);
}

void solve_program() {
  const double sense = read(1)[0];
  const auto columns = static_cast<int>(read(1)[0]), rows = static_cast<int>(read(1)[0]);
  const auto cost = read(columns), low = read(columns), high = read(columns), row_low = read(rows),
             row_high = read(rows);
  LinearProgram program(sense > 0 ? Sense::minimise : Sense::maximise);
  for (int j = 0; j < columns; ++j) program.add_column(low[j], high[j], cost[j]);
  for (int row = 0; row < rows; ++row) program.add_dense_row(0, read(columns), row_low[row], row_high[row]);
  const double start = cpu_seconds();
  const Solution solution = program.solve();
  print(solution.outcome, solution.objective, cpu_seconds() - start, solution.iterations, rows);
}

void solve_change() {
  const Norm norm = read(1)[0] == 0 ? Norm::linf : Norm::l1;
  const auto features = static_cast<int>(read(1)[0]), classes = static_cast<int>(read(1)[0]),
             points = static_cast<int>(read(1)[0]);
  const double margin = read(1)[0];
  const auto phi = read(points * features), logits = read(points * classes), given = read(points);
  const std::vector<int64_t> labels(given.begin(), given.end());
  const double start = cpu_seconds();
  const MinimalChange found = minimal_class_change({.features = features,
                                                    .classes = classes,
                                                    .phi = phi,
                                                    .logits = logits,
                                                    .labels = labels,
                                                    .margin = margin},
                                                   norm, {});
  print(found.outcome, found.size, cpu_seconds() - start, found.iterations, found.rows);
}

}  // namespace

int main() {
  for (std::string kind; std::cin >> kind;) {
    if (kind == "lp")
      solve_program();
    else
      solve_change();
  }
}
