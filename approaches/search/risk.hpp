#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace harness::search {

// Stands for every class but the label's own.
constexpr int64_t kAnyClass = -1;

// Inputs of class `label` taken for class `predicted`, or for any other one; `level`: its risk.
struct ErrorKind {
  int64_t label = 0, predicted = kAnyClass;
  double level = 1;
  bool covers(int64_t other) const { return predicted == kAnyClass || predicted == other; }
};
std::string to_text(const ErrorKind& kind);  // "3->5", "7"

// What a user says of the risk of errors (approaches/docs/DTR.md, Formulas), as a table with keys such as
// "3->5" (label 3 taken for class 5) and "7" (label 7 taken for any class). Levels are 1 where it says
// nothing.
class RiskLevels {
 public:
  // A label, or two different ones, as whole numbers without sign or leading zero.
  static bool is_key(const std::string& text);

  RiskLevels() = default;
  explicit RiskLevels(const std::map<std::string, double>& table);  // of such keys; else a misuse

  const std::vector<ErrorKind>& named() const { return named_; }  // by key
  double of_pair(int64_t label, int64_t predicted) const;
  std::vector<double> of_classes(int64_t classes) const;  // by label: that of the label, taken for any class
  int64_t largest_label() const;                          // -1 where nothing is named

 private:
  std::vector<ErrorKind> named_;
};

// Mean recall over the classes that occur in `labels` (int64 (N), CPU), weighted by `class_levels`, less
// `factor` times the mean rate of the errors `kinds`, weighted by their levels, each rate over the inputs of
// its own label (approaches/docs/DTR.md, Formulas: score). A mean whose weights are all 0 is 0.
double recall_less_risk(const at::Tensor& labels, const std::vector<int32_t>& predicted,
                        const std::vector<double>& class_levels, const std::vector<ErrorKind>& kinds,
                        double factor);

}  // namespace harness::search
