#include <array>
#include <cmath>

#include "harness/core/error.hpp"
#include "harness/measure/metrics/counts.hpp"

// AAOD: average absolute odds difference between the two groups, one class against the rest, mean over the
// classes of |difference of true positive rates| and |difference of false positive rates|, halved; a rate
// with denominator 0 is 0 (study/README.md section 2).
namespace harness {
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

double odds_difference(const SplitOutcome& split, const std::vector<int32_t>& predicted, int64_t classes) {
  const size_t images = split.label.size();
  if (predicted.size() != images || split.group.size() != images) {
    interface_misuse("a split's labels, groups and predictions differ in length");
  }
  std::array<std::vector<Tally>, 2> tallies;
  for (auto& group : tallies) group.resize(static_cast<size_t>(classes));
  std::array<int64_t, 2> sizes = {0, 0};
  const auto of_class = [&](std::vector<Tally>& group, int32_t index) -> Tally& {
    if (index < 0 || index >= classes) interface_misuse("a label or prediction is outside of the classes");
    return group[static_cast<size_t>(index)];
  };
  for (size_t i = 0; i < images; ++i) {
    if (split.group[i] > 1) interface_misuse("a group is neither 0 nor 1");
    auto& group = tallies[split.group[i]];
    ++sizes[split.group[i]];
    ++of_class(group, split.label[i]).positives;
    Tally& hit = of_class(group, predicted[i]);
    ++(predicted[i] == split.label[i] ? hit.true_positives : hit.false_positives);
  }
  double true_sum = 0, false_sum = 0;
  for (size_t c = 0; c < static_cast<size_t>(classes); ++c) {
    for (size_t g = 0; g < 2; ++g) tallies[g][c].negatives = sizes[g] - tallies[g][c].positives;
    true_sum += std::abs(tallies[0][c].true_rate() - tallies[1][c].true_rate());
    false_sum += std::abs(tallies[0][c].false_rate() - tallies[1][c].false_rate());
  }
  return 0.5 * (true_sum + false_sum) / static_cast<double>(classes);
}

MetricValue fairness(const Evaluation& run, std::vector<int32_t> SplitOutcome::*predicted) {
  if (run.test.label.empty()) return MetricValue::undefined("no_images: the test split is empty");
  if (run.test.group.empty()) return MetricValue::undefined("no_groups: the data has no sensitive groups");
  return MetricValue::of(odds_difference(run.test, run.test.*predicted, run.classes));
}

MetricValue fixed(const Evaluation& run) {
  return fairness(run, &SplitOutcome::fixed);
}
MetricValue original(const Evaluation& run) {
  return fairness(run, &SplitOutcome::original);
}

MetricValue improvement(const Evaluation& run) {
  const MetricValue before = original(run), after = fixed(run);
  if (!before.value) return before;
  return relative_improvement(*before.value - *after.value, *before.value, "AAOD");
}

const bool registered[] = {
    register_metric({.name = "AAOD",
                     .unit = "fraction",
                     .better = Better::lower,
                     .table = "rq3",
                     .order = 200,
                     .compute = fixed}),
    register_metric({.name = "AAOD_ORIGINAL",
                     .unit = "fraction",
                     .better = Better::neither,
                     .table = "rq3",
                     .order = 210,
                     .compute = original}),
    register_metric({.name = "AAOD_REL_IMPROVEMENT",
                     .unit = "percent",
                     .better = Better::higher,
                     .table = "rq3",
                     .order = 220,
                     .compute = improvement}),
};

}  // namespace
}  // namespace harness
