#pragma once

#include <vector>

#include "harness/report/report.hpp"

namespace harness::report {

// The ok runs of one approach, each with only those test images that were attacked in all of them: the
// original and all fixed models get these right (harness/docs/metrics.md, Several runs). Empty where no run
// was attacked.
std::vector<metrics::Evaluation> common_attack(const ResultsTree& tree, const ApproachReport& row);

}  // namespace harness::report
