#include "harness/report/joint.hpp"

#include <algorithm>
#include <cmath>

#include "harness/core/files.hpp"
#include "harness/measure/metrics/outcomes.hpp"

namespace harness::report {
namespace {

bool attacked(const Record& record) {
  for (const metrics::Metric& metric : metrics::all()) {
    if (!metric.joint) continue;
    for (const MetricRecord& recorded : record.metrics) {
      if (recorded.name == metric.name && recorded.value) return true;
    }
  }
  return false;
}

// The flags beside a record must be those that its metrics were computed from.
void check_flags(const metrics::Evaluation& run, const Record& record, const std::filesystem::path& file) {
  for (const metrics::Metric& metric : metrics::all()) {
    if (!metric.joint) continue;
    for (const MetricRecord& recorded : record.metrics) {
      if (recorded.name != metric.name || !recorded.value) continue;
      const std::optional<double> again = metric.compute(run).value;
      if (again && std::abs(*again - *recorded.value) < 1e-9 * (1 + std::abs(*again))) continue;
      throw ResultsError(Problem{file.string(), metric.name, again ? format_number(*again) : "none",
                                 format_number(*recorded.value) + ", as record.json beside it says", ""});
    }
  }
}

}  // namespace

std::vector<metrics::Evaluation> common_attack(const ResultsTree& tree, const ApproachReport& row) {
  std::vector<metrics::Evaluation> runs;
  for (const RunCell& run : row.runs) {
    if (!run.ok() || !attacked(*run.record)) continue;
    const std::filesystem::path folder = tree.cell(run.planned.cell);
    metrics::Evaluation evaluation;
    evaluation.classes = run.record->classes;
    evaluation.test = metrics::read_predictions(folder / "predictions.csv");
    evaluation.attack = metrics::read_attack(folder / "attack.csv");
    check_flags(evaluation, *run.record, folder / "attack.csv");
    runs.push_back(std::move(evaluation));
  }
  return metrics::restrict_to_common(std::move(runs));
}

}  // namespace harness::report
