#pragma once

#include <filesystem>
#include <string>

#include "harness/measure/metrics/metric.hpp"

namespace harness::metrics {

// The text of the CSV files beside a record (store/record.hpp).
std::string predictions_csv(const SplitOutcome& outcome);  // without groups
std::string attack_csv(const AttackOutcome& outcome);

// Readers of the files beside a record (store/record.hpp). Throw ResultsError with file, line and what is
// wrong.
SplitOutcome read_predictions(const std::filesystem::path& file);  // without groups
AttackOutcome read_attack(const std::filesystem::path& file);

}  // namespace harness::metrics
