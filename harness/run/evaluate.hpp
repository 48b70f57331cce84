#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "harness/core/record.hpp"
#include "harness/measure/metrics/metric.hpp"
#include "harness/run/original.hpp"

namespace harness {

// One fixed model against its original: predictions on test and repair split, attack.
struct EvaluatedModel {
  Evaluation evaluation;
  bool finite = true;                    // all outputs on both splits
  double accuracy = 0;                   // percent, test split
  std::map<std::string, double> phases;  // predict, attack, attack_original
};

// What the classes on both splits say, from a run or read back from a file.
EvaluatedModel evaluated_model(const Subject& subject, SplitOutcome test, std::optional<SplitOutcome> repair);

// Predictions only; evaluate_attack() adds the attack (apart, so that a corrupted model is not attacked).
EvaluatedModel evaluate_predictions(const Subject& subject, const Original& original, const Network& fixed);
void evaluate_attack(const Subject& subject, Original* original, const Network& fixed, EvaluatedModel* model);

// Every registered metric.
std::vector<MetricRecord> measure_metrics(const Evaluation& evaluation);

}  // namespace harness
