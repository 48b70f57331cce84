#include "harness/measure/metrics/counts.hpp"

// RR: share of the original's misclassified images that the fixed model gets right; REPAIRED: their number
// (harness/docs/metrics.md, Flips). Both are of the test split; names with _REPAIR are of the repair split.
namespace harness::metrics {
namespace {

MetricValue repair_rate(const FlipCounts& counts) {
  const int64_t wrong = counts.images - counts.right_original;
  if (wrong == 0) return MetricValue::undefined("no_faults: the original classifies every image correctly");
  return MetricValue::of(100.0 * static_cast<double>(counts.repaired) / static_cast<double>(wrong));
}

MetricValue repaired(const FlipCounts& counts) {
  return MetricValue::of(static_cast<double>(counts.repaired));
}

const bool registered[] = {
    register_metric({.name = "RR",
                     .unit = "percent",
                     .better = Better::higher,
                     .table = "rq2",
                     .order = 30,
                     .compute = [](const Evaluation& run) { return on_test(run, repair_rate); }}),
    register_metric({.name = "REPAIRED",
                     .unit = "count",
                     .better = Better::higher,
                     .table = "rq2",
                     .order = 40,
                     .compute = [](const Evaluation& run) { return on_test(run, repaired); }}),
    register_metric({.name = "RR_REPAIR",
                     .unit = "percent",
                     .better = Better::higher,
                     .table = "rq2",
                     .order = 130,
                     .compute = [](const Evaluation& run) { return on_repair(run, repair_rate); }}),
    register_metric({.name = "REPAIRED_REPAIR",
                     .unit = "count",
                     .better = Better::higher,
                     .table = "rq2",
                     .order = 140,
                     .compute = [](const Evaluation& run) { return on_repair(run, repaired); }}),
};

}  // namespace
}  // namespace harness::metrics
