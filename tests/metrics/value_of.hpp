#pragma once

#include <string>

#include "harness/measure/metrics/metric.hpp"
#include "tests/support.hpp"

namespace harness::testing {

// What the registered metric of this name says of an evaluation; the test fails where there is none.
inline metrics::MetricValue value_of(const std::string& name, const metrics::Evaluation& run) {
  for (const metrics::Metric& metric : metrics::all()) {
    if (metric.name == name) return metric.compute(run);
  }
  FAIL("no metric is named " << name);
  return {};
}

}  // namespace harness::testing
