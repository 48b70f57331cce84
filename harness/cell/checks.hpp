#pragma once

#include <map>
#include <string>
#include <vector>

#include "harness/approach/approach.hpp"
#include "harness/measure/metrics/metric.hpp"
#include "harness/store/record.hpp"

namespace harness::cell {

// The checks every fix has to pass (harness/docs/design.md, Approaches); a failed one marks the record
// mistrusted.

// "shapes", "untouched", "finite" of the parameters. Adds the counters changed_weights and added_weights.
std::vector<Invariant> check_parameters(const Network& original, const Network& fixed, const Touched& touched,
                                        std::map<std::string, int64_t>* counters);

// "identity": ACC = ACC(original) + RR (100 - ACC(original)) / 100 - NFR.
Invariant check_identity(const std::vector<MetricRecord>& metrics, double original_accuracy);

// "counts": right, repaired and broken add up on both splits. "epsilon_zero": an attack that may change
// nothing succeeds nowhere (only where epsilon is 0). "unchanged": NONE repairs and breaks nothing (only
// there).
std::vector<Invariant> check_counts(const metrics::Evaluation& evaluation,
                                    const std::vector<MetricRecord>& metrics);
Invariant check_epsilon_zero(const metrics::AttackOutcome& attack);
Invariant check_unchanged(const std::vector<MetricRecord>& metrics);

// "reload": the saved model classifies the first images of the split as the one in memory does.
Invariant check_reload(const std::vector<int32_t>& in_memory, const std::vector<int32_t>& reloaded);

}  // namespace harness::cell
