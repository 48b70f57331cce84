#pragma once

#include <vector>

#include "approaches/locate/faults.hpp"
#include "approaches/search/risk.hpp"

namespace harness::locate {

// One kind of error and the inputs that are of it: positions, ascending.
struct KindOfFaults {
  search::ErrorKind kind;
  std::vector<int64_t> negatives;
};

struct KindChoice {
  int64_t most = 8, least_negatives = 5;
};

struct ChosenKinds {
  std::vector<KindOfFaults> kinds;  // in the order of their search
  std::vector<KindOfFaults>
      left_out;  // those of a level above 0 that `levels` names and that were not chosen
};

// Which kinds of error get an expert (approaches/docs/DTR.md, Steps in this project, 1): those of the highest
// level, of equal ones the most frequent, `most` at most and each with `least_negatives` faults; where none
// has so many, the first of that order alone. Candidates are all pairs of label and prediction that occur,
// and the kinds "label taken for any class" that `levels` names; none of level 0.
ChosenKinds choose_kinds(const Judgement& judgement, const search::RiskLevels& levels,
                         const KindChoice& choice);

}  // namespace harness::locate
