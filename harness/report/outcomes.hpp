#pragma once

#include <filesystem>

#include "harness/measure/metrics/metric.hpp"

namespace harness {

// Readers of the files beside a record (core/record.hpp). Throw ResultsError with file, line and what is
// wrong.
SplitOutcome read_predictions(const std::filesystem::path& file);  // without groups
AttackOutcome read_attack(const std::filesystem::path& file);

}  // namespace harness
