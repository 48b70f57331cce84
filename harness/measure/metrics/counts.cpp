#include "harness/measure/metrics/counts.hpp"

#include "harness/core/error.hpp"

namespace harness::metrics {

FlipCounts count_flips(const SplitOutcome& split) {
  const size_t images = split.label.size();
  if (split.original.size() != images || split.fixed.size() != images) {
    interface_misuse("a split's labels and predictions differ in length");
  }
  FlipCounts counts;
  counts.images = static_cast<int64_t>(images);
  for (size_t i = 0; i < images; ++i) {
    const bool before = split.original[i] == split.label[i];
    const bool after = split.fixed[i] == split.label[i];
    counts.right_original += before;
    counts.right_fixed += after;
    counts.repaired += !before && after;
    counts.broken += before && !after;
  }
  return counts;
}

MetricValue on_test(const Evaluation& run, CountMetric metric) {
  if (run.test.label.empty()) return MetricValue::undefined("no_images: the test split is empty");
  return metric(count_flips(run.test));
}

MetricValue on_repair(const Evaluation& run, CountMetric metric) {
  if (!run.repair) return MetricValue::undefined("no_repair_split: the data has no repair split");
  if (run.repair->label.empty()) return MetricValue::undefined("no_images: the repair split is empty");
  return metric(count_flips(*run.repair));
}

MetricValue relative_improvement(double gain, double baseline, const char* name) {
  if (baseline == 0) {
    return MetricValue::undefined(std::string("no_baseline: ") + name +
                                  " of the original is 0, an improvement relative to it has no value");
  }
  return MetricValue::of(100.0 * gain / baseline);
}

}  // namespace harness::metrics
