#include "harness/measure/metrics/counts.hpp"

// BROKEN: number of images that the original gets right and the fixed model gets wrong. NFR: the same as a
// share of all images of the split, not only of the right ones (harness/docs/metrics.md, Flips).
namespace harness::metrics {
namespace {

MetricValue negative_flip_rate(const FlipCounts& counts) {
  return MetricValue::of(100.0 * static_cast<double>(counts.broken) / static_cast<double>(counts.images));
}

MetricValue broken(const FlipCounts& counts) {
  return MetricValue::of(static_cast<double>(counts.broken));
}

const bool registered[] = {
    register_metric({.name = "NFR",
                     .unit = "percent",
                     .better = Better::lower,
                     .table = "rq3",
                     .order = 10,
                     .compute = [](const Evaluation& run) { return on_test(run, negative_flip_rate); }}),
    register_metric({.name = "BROKEN",
                     .unit = "count",
                     .better = Better::lower,
                     .table = "rq3",
                     .order = 20,
                     .compute = [](const Evaluation& run) { return on_test(run, broken); }}),
    register_metric({.name = "NFR_REPAIR",
                     .unit = "percent",
                     .better = Better::lower,
                     .table = "rq3",
                     .order = 110,
                     .compute = [](const Evaluation& run) { return on_repair(run, negative_flip_rate); }}),
    register_metric({.name = "BROKEN_REPAIR",
                     .unit = "count",
                     .better = Better::lower,
                     .table = "rq3",
                     .order = 120,
                     .compute = [](const Evaluation& run) { return on_repair(run, broken); }}),
};

}  // namespace
}  // namespace harness::metrics
