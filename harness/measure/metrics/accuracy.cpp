#include "harness/measure/metrics/counts.hpp"

// ACC: share of the split that the fixed model classifies correctly, and its improvement relative to the
// original's, in percent and not in percentage points (harness/docs/metrics.md, Accuracy).
namespace harness::metrics {
namespace {

MetricValue accuracy(const FlipCounts& counts) {
  return MetricValue::of(100.0 * static_cast<double>(counts.right_fixed) /
                         static_cast<double>(counts.images));
}

MetricValue improvement(const FlipCounts& counts) {
  return relative_improvement(static_cast<double>(counts.right_fixed - counts.right_original),
                              static_cast<double>(counts.right_original), "ACC");
}

const bool registered[] = {
    register_metric({.name = "ACC",
                     .unit = "percent",
                     .better = Better::higher,
                     .table = "rq2",
                     .order = 10,
                     .compute = [](const Evaluation& run) { return on_test(run, accuracy); }}),
    register_metric({.name = "ACC_REL_IMPROVEMENT",
                     .unit = "percent",
                     .better = Better::higher,
                     .table = "rq2",
                     .order = 20,
                     .compute = [](const Evaluation& run) { return on_test(run, improvement); }}),
    register_metric({.name = "ACC_REPAIR",
                     .unit = "percent",
                     .better = Better::higher,
                     .table = "rq2",
                     .order = 110,
                     .compute = [](const Evaluation& run) { return on_repair(run, accuracy); }}),
    register_metric({.name = "ACC_REL_IMPROVEMENT_REPAIR",
                     .unit = "percent",
                     .better = Better::higher,
                     .table = "rq2",
                     .order = 120,
                     .compute = [](const Evaluation& run) { return on_repair(run, improvement); }}),
};

}  // namespace
}  // namespace harness::metrics
