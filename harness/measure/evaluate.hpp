#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "harness/measure/metrics/metric.hpp"
#include "harness/measure/original.hpp"
#include "harness/store/record.hpp"

namespace harness {

// One fixed model against its original: predictions on test and repair split, attack.
struct EvaluatedModel {
  metrics::Evaluation evaluation;
  std::string not_finite;  // where NaN or an infinity sits (predict.hpp), on both splits
  std::string random;      // why its answers may change from pass to pass (predict.hpp), on both splits
  bool finite() const { return not_finite.empty(); }
  double accuracy = 0;                   // percent, test split
  std::map<std::string, double> phases;  // predict, attack, attack_original
};

// Evaluates the classes on both splits, which come from a run or from a file.
EvaluatedModel evaluated_model(const Subject& subject, metrics::SplitOutcome test,
                               std::optional<metrics::SplitOutcome> repair);

// Why `network` cannot be attacked on this subject: "attack_impossible: ...", the operator without a
// derivative; empty where it can. Tried on two images.
std::string attack_limitation(const Subject& subject, const Network& network);

// evaluate_predictions() makes predictions only. evaluate_attack() adds the attack, or the reason why there
// is none. They are two functions because a corrupted model is not attacked.
EvaluatedModel evaluate_predictions(const Subject& subject, const Original& original, const Network& fixed);
void evaluate_attack(const Subject& subject, Original* original, const Network& fixed, EvaluatedModel* model);

// Every registered metric.
std::vector<MetricRecord> measure_metrics(const metrics::Evaluation& evaluation);

}  // namespace harness
