#pragma once

#include <vector>

#include "harness/report/report.hpp"

namespace harness {

// The ok runs of one approach, cut down to the test images attacked in all of them: those that the original
// and all fixed models get right (harness/docs/metrics.md, Several runs). Empty where no run was attacked.
std::vector<Evaluation> common_attack(const ResultsTree& tree, const ApproachReport& row);

}  // namespace harness
