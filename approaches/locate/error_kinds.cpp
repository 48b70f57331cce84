#include "approaches/locate/error_kinds.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <tuple>
#include <utility>

namespace harness::locate {
namespace {

// All pairs that occur, the named kinds whether they occur or not.
std::vector<KindOfFaults> candidates(const Judgement& judgement, const search::RiskLevels& levels) {
  std::vector<KindOfFaults> found;
  const std::vector<ErrorType> types = error_types(judgement);
  for (const ErrorType& type : types) {
    const double level = levels.of_pair(type.label, type.predicted);
    found.push_back({{.label = type.label, .predicted = type.predicted, .level = level}, type.negatives});
  }
  for (const search::ErrorKind& kind : levels.named()) {
    std::vector<int64_t> negatives;
    bool is_there = false;
    for (const ErrorType& type : types) {
      if (type.label != kind.label || !kind.covers(type.predicted)) continue;
      is_there |= type.predicted == kind.predicted;
      negatives.insert(negatives.end(), type.negatives.begin(), type.negatives.end());
    }
    if (is_there) continue;  // a pair that is among the candidates
    std::ranges::sort(negatives);
    found.push_back({kind, std::move(negatives)});
  }
  std::erase_if(found, [](const KindOfFaults& one) { return one.kind.level <= 0; });
  std::ranges::stable_sort(found, [](const KindOfFaults& a, const KindOfFaults& b) {
    const auto order = [](const KindOfFaults& one) {
      return std::tuple(-one.kind.level, -std::ssize(one.negatives), one.kind.label, one.kind.predicted);
    };
    return order(a) < order(b);
  });
  return found;
}

}  // namespace

ChosenKinds choose_kinds(const Judgement& judgement, const search::RiskLevels& levels,
                         const KindChoice& choice) {
  std::vector<KindOfFaults> found = candidates(judgement, levels);
  const auto has = [](int64_t faults) {
    return [faults](const KindOfFaults& one) { return std::ssize(one.negatives) >= faults; };
  };
  const bool any = std::ranges::any_of(found, has(choice.least_negatives));
  const int64_t least = any ? choice.least_negatives : 1, most = any ? choice.most : 1;
  ChosenKinds chosen;
  for (KindOfFaults& one : found) {
    if (has(least)(one) && std::ssize(chosen.kinds) < most) {
      chosen.kinds.push_back(std::move(one));
      continue;
    }
    const bool is_named = std::ranges::any_of(levels.named(), [&](const search::ErrorKind& kind) {
      return kind.label == one.kind.label && kind.predicted == one.kind.predicted;
    });
    if (is_named) chosen.left_out.push_back(std::move(one));
  }
  return chosen;
}

}  // namespace harness::locate
