#include "approaches/search/risk.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <regex>

#include "harness/core/error.hpp"

namespace harness::search {
namespace {

std::optional<ErrorKind> kind_of(const std::string& key) {
  static const std::regex form("(0|[1-9][0-9]{0,8})(->(0|[1-9][0-9]{0,8}))?");
  std::smatch found;
  if (!std::regex_match(key, found, form)) return std::nullopt;
  ErrorKind kind{.label = std::stoll(found[1])};
  if (found[2].matched) kind.predicted = std::stoll(found[3]);
  return kind.predicted == kind.label ? std::nullopt : std::optional(kind);
}

double ratio(double sum, double of) {
  return of > 0 ? sum / of : 0;
}

}  // namespace

std::string to_text(const ErrorKind& kind) {
  const std::string label = std::to_string(kind.label);
  return kind.predicted == kAnyClass ? label : label + "->" + std::to_string(kind.predicted);
}

bool RiskLevels::is_key(const std::string& text) {
  return kind_of(text).has_value();
}

RiskLevels::RiskLevels(const std::map<std::string, double>& table) {
  for (const auto& [key, level] : table) {
    std::optional<ErrorKind> kind = kind_of(key);
    if (!kind) interface_misuse("no kind of error is written " + key);
    kind->level = level;
    named_.push_back(*kind);
  }
}

double RiskLevels::of_pair(int64_t label, int64_t predicted) const {
  for (const ErrorKind& kind : named_) {
    if (kind.label == label && kind.predicted == predicted) return kind.level;
  }
  return 1;
}

std::vector<double> RiskLevels::of_classes(int64_t classes) const {
  std::vector<double> levels;
  for (int64_t label = 0; label < classes; ++label) levels.push_back(of_pair(label, kAnyClass));
  return levels;
}

int64_t RiskLevels::largest_label() const {
  int64_t largest = -1;
  for (const ErrorKind& kind : named_) largest = std::max({largest, kind.label, kind.predicted});
  return largest;
}

double recall_less_risk(const at::Tensor& labels, const std::vector<int32_t>& predicted,
                        const std::vector<double>& class_levels, const std::vector<ErrorKind>& kinds,
                        double factor) {
  const auto label = labels.accessor<int64_t, 1>();
  std::vector<int64_t> inputs(class_levels.size(), 0), right = inputs;
  std::map<std::pair<int64_t, int64_t>, int64_t> errors;
  for (size_t n = 0; n < predicted.size(); ++n) {
    const int64_t own = label[static_cast<int64_t>(n)];
    ++inputs[static_cast<size_t>(own)];
    if (predicted[n] == own) {
      ++right[static_cast<size_t>(own)];
    } else {
      ++errors[{own, predicted[n]}];
      ++errors[{own, kAnyClass}];
    }
  }
  double recall = 0, there = 0, rates = 0, levels = 0;
  for (size_t c = 0; c < inputs.size(); ++c) {
    if (inputs[c] == 0) continue;
    recall += class_levels[c] * static_cast<double>(right[c]) / static_cast<double>(inputs[c]);
    there += class_levels[c];
  }
  for (const ErrorKind& kind : kinds) {
    levels += kind.level;
    const auto found = errors.find({kind.label, kind.predicted});
    if (found == errors.end()) continue;
    const auto of_label = static_cast<double>(inputs[static_cast<size_t>(kind.label)]);
    rates += kind.level * static_cast<double>(found->second) / of_label;
  }
  return ratio(recall, there) - ratio(factor * rates, levels);
}

}  // namespace harness::search
