#include <array>
#include <cmath>

#include "harness/core/error.hpp"
#include "harness/measure/metrics/counts.hpp"

// AAOD: average absolute odds difference between the two groups. For each class against the rest it takes the
// absolute differences of true and of false positive rates; TPR_GAP and FPR_GAP are their means over the
// classes, and AAOD is the mean of both. A rate with denominator 0 is 0 (harness/docs/metrics.md, Fairness).
namespace harness::metrics {
namespace {

struct Tally {
  int64_t positives = 0, negatives = 0;  // by label
  int64_t true_positives = 0, false_positives = 0;
  double true_rate() const { return rate(true_positives, positives); }
  double false_rate() const { return rate(false_positives, negatives); }
  static double rate(int64_t part, int64_t whole) {
    return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
  }
};

struct Odds {
  double true_gap = 0, false_gap = 0;  // |difference between the groups|, mean over the classes
  std::array<int64_t, 2> images = {0, 0};
  double difference() const { return 0.5 * (true_gap + false_gap); }
};

Odds odds_of(const SplitOutcome& split, const std::vector<int32_t>& predicted, int64_t classes) {
  const size_t images = split.label.size();
  if (predicted.size() != images || split.group.size() != images) {
    interface_misuse("a split's labels, groups and predictions differ in length");
  }
  std::array<std::vector<Tally>, 2> tallies;
  for (auto& group : tallies) group.resize(static_cast<size_t>(classes));
  Odds odds;
  const auto of_class = [&](std::vector<Tally>& group, int32_t index) -> Tally& {
    if (index < 0 || index >= classes) interface_misuse("a label or prediction is outside of the classes");
    return group[static_cast<size_t>(index)];
  };
  for (size_t i = 0; i < images; ++i) {
    if (split.group[i] > 1) interface_misuse("a group is neither 0 nor 1");
    auto& group = tallies[split.group[i]];
    ++odds.images[split.group[i]];
    ++of_class(group, split.label[i]).positives;
    Tally& hit = of_class(group, predicted[i]);
    ++(predicted[i] == split.label[i] ? hit.true_positives : hit.false_positives);
  }
  for (size_t c = 0; c < static_cast<size_t>(classes); ++c) {
    for (size_t g = 0; g < 2; ++g) tallies[g][c].negatives = odds.images[g] - tallies[g][c].positives;
    odds.true_gap += std::abs(tallies[0][c].true_rate() - tallies[1][c].true_rate());
    odds.false_gap += std::abs(tallies[0][c].false_rate() - tallies[1][c].false_rate());
  }
  odds.true_gap /= static_cast<double>(classes);
  odds.false_gap /= static_cast<double>(classes);
  return odds;
}

using Predicted = std::vector<int32_t> SplitOutcome::*;

template <typename Value>
MetricValue of_groups(const Evaluation& run, Predicted predicted, Value value) {
  if (run.test.label.empty()) return MetricValue::undefined("no_images: the test split is empty");
  if (run.test.group.empty()) return MetricValue::undefined("no_groups: the data has no sensitive groups");
  return value(odds_of(run.test, run.test.*predicted, run.classes));
}

// No value where one of the groups has no images.
MetricValue between_groups(const Odds& odds, double value) {
  for (size_t group = 0; group < 2; ++group) {
    if (odds.images[group] > 0) continue;
    return MetricValue::undefined("empty_group: the test split has no image of group " +
                                  std::to_string(group));
  }
  return MetricValue::of(value);
}

template <Predicted predicted>
MetricValue difference(const Evaluation& run) {
  return of_groups(run, predicted, [](const Odds& odds) { return between_groups(odds, odds.difference()); });
}
template <Predicted predicted>
MetricValue true_gap(const Evaluation& run) {
  return of_groups(run, predicted, [](const Odds& odds) { return between_groups(odds, odds.true_gap); });
}
template <Predicted predicted>
MetricValue false_gap(const Evaluation& run) {
  return of_groups(run, predicted, [](const Odds& odds) { return between_groups(odds, odds.false_gap); });
}
template <size_t group>
MetricValue images(const Evaluation& run) {
  return of_groups(run, &SplitOutcome::original,
                   [](const Odds& odds) { return MetricValue::of(static_cast<double>(odds.images[group])); });
}

constexpr Predicted kFixed = &SplitOutcome::fixed, kOriginal = &SplitOutcome::original;

MetricValue improvement(const Evaluation& run) {
  const MetricValue before = difference<kOriginal>(run), after = difference<kFixed>(run);
  if (!before.value) return before;
  return relative_improvement(*before.value - *after.value, *before.value, "AAOD");
}

bool register_fairness(const char* name, const char* unit, Better better, int order,
                       MetricValue (*compute)(const Evaluation&)) {
  return register_metric({.name = name,
                          .unit = unit,
                          .better = better,
                          .table = "rq3",
                          .order = order,
                          .compute = compute,
                          .version = 2});
}

const bool registered[] = {
    register_fairness("AAOD", "fraction", Better::lower, 200, difference<kFixed>),
    register_fairness("AAOD_ORIGINAL", "fraction", Better::neither, 210, difference<kOriginal>),
    register_fairness("AAOD_REL_IMPROVEMENT", "percent", Better::higher, 220, improvement),
    register_fairness("TPR_GAP", "fraction", Better::lower, 230, true_gap<kFixed>),
    register_fairness("TPR_GAP_ORIGINAL", "fraction", Better::neither, 231, true_gap<kOriginal>),
    register_fairness("FPR_GAP", "fraction", Better::lower, 240, false_gap<kFixed>),
    register_fairness("FPR_GAP_ORIGINAL", "fraction", Better::neither, 241, false_gap<kOriginal>),
    register_fairness("GROUP_0_IMAGES", "count", Better::neither, 250, images<0>),
    register_fairness("GROUP_1_IMAGES", "count", Better::neither, 251, images<1>),
};

}  // namespace
}  // namespace harness::metrics
