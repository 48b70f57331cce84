#pragma once

#include "harness/measure/metrics/metric.hpp"

namespace harness::metrics {

// The counts that metrics of one split are made of (harness/docs/metrics.md, Symbols).
struct FlipCounts {
  int64_t images = 0;
  int64_t right_original = 0;  // |R|; |W| = images - right_original
  int64_t right_fixed = 0;
  int64_t repaired = 0;  // of W, right after the fix
  int64_t broken = 0;    // of R, wrong after the fix
};

// Misuse where label, original and fixed differ in length.
FlipCounts count_flips(const SplitOutcome& split);

// A metric that needs only the counts of one split. It is never called for an empty split.
using CountMetric = MetricValue (*)(const FlipCounts&);
MetricValue on_test(const Evaluation& run, CountMetric metric);
MetricValue on_repair(const Evaluation& run, CountMetric metric);  // "no_repair_split: ..." without one

// 100 * (gain / baseline); no value, with "no_baseline: ...", where the original's value is 0.
MetricValue relative_improvement(double gain, double baseline, const char* name);

}  // namespace harness::metrics
