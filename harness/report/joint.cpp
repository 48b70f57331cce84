#include "harness/report/joint.hpp"

#include <algorithm>

#include "harness/report/outcomes.hpp"

namespace harness {
namespace {

bool attacked(const Record& record) {
  for (const Metric& metric : metrics()) {
    if (!metric.joint) continue;
    for (const MetricRecord& recorded : record.metrics) {
      if (recorded.name == metric.name && recorded.value) return true;
    }
  }
  return false;
}

}  // namespace

std::vector<Evaluation> common_attack(const ResultsTree& tree, const ApproachReport& row) {
  std::vector<Evaluation> runs;
  for (const RunCell& run : row.runs) {
    if (!run.ok() || !attacked(*run.record)) continue;
    const std::filesystem::path folder = tree.cell(run.planned.cell);
    Evaluation evaluation;
    evaluation.classes = run.record->classes;
    evaluation.test = read_predictions(folder / "predictions.csv");
    evaluation.attack = read_attack(folder / "attack.csv");
    runs.push_back(std::move(evaluation));
  }
  return restrict_to_common(std::move(runs));
}

}  // namespace harness
