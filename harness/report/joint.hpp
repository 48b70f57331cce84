#pragma once

#include <vector>

#include "harness/report/report.hpp"

namespace harness {

// The ok runs of one approach, cut down to the test images attacked in all of them: the study's "both
// correct" means the original and all its fixed models (DESIGN 7). Empty where no run was attacked.
std::vector<Evaluation> common_attack(const ResultsTree& tree, const ApproachReport& row);

}  // namespace harness
