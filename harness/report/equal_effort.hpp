#pragma once

#include <vector>

#include "harness/report/report.hpp"

namespace harness::report {

// A control that repeats a search (RAND:KEY) is held against that approach at equal evaluations, not at equal
// time. Where both counted them and the means of their ok runs differ, the control's reason says so, and how
// many runs a budget ended (approaches/docs/controls.md, TIME). Compared are rows of one subject with equal
// hyperparameters.
void note_unequal_evaluations(std::vector<ApproachReport>* rows);

}  // namespace harness::report
