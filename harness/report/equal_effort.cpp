#include "harness/report/equal_effort.hpp"

#include <algorithm>
#include <cmath>

namespace harness::report {
namespace {

// Mean over the ok runs, rounded; nothing where none counted them.
std::optional<int64_t> evaluations_of(const ApproachReport& row) {
  double sum = 0;
  int64_t runs = 0;
  for (const RunCell& run : row.runs) {
    if (!run.ok()) continue;
    const auto counted = run.record->counters.find("evaluations");
    if (counted == run.record->counters.end()) continue;
    sum += static_cast<double>(counted->second);
    ++runs;
  }
  if (runs == 0) return std::nullopt;
  return std::llround(sum / static_cast<double>(runs));
}

std::string ended_by_budget(const ApproachReport& row) {
  const auto runs = std::count_if(row.runs.begin(), row.runs.end(), [](const RunCell& run) {
    return run.ok() && !run.record->cut_short().empty();
  });
  if (runs == 0) return "";
  return "; a budget ended " + std::to_string(runs) + (runs == 1 ? " run of " : " runs of ") +
         row.cell.approach;
}

const Identity::Approach& settings_of(const ApproachReport& row) {
  return row.runs.front().planned.identity.approach;
}

bool imitates(const ApproachReport& control, const ApproachReport& other) {
  if (other.level == Level::control || other.cell.subject != control.cell.subject) return false;
  const Identity::Approach &own = settings_of(control), &its = settings_of(other);
  return its.key == own.shadow && its.parameters == own.parameters;
}

}  // namespace

void note_unequal_evaluations(std::vector<ApproachReport>* rows) {
  for (ApproachReport& control : *rows) {
    if (control.level != Level::control || settings_of(control).shadow.empty()) continue;
    const auto imitated = std::find_if(rows->begin(), rows->end(),
                                       [&](const ApproachReport& other) { return imitates(control, other); });
    if (imitated == rows->end()) continue;
    const std::optional<int64_t> own = evaluations_of(control), its = evaluations_of(*imitated);
    if (!own || !its || *own == *its) continue;
    control.reason += (control.reason.empty() ? "" : "; ") + std::string("evaluations: ") +
                      std::to_string(*own) + " against " + std::to_string(*its) + " of " +
                      imitated->cell.approach + ", so not compared at equal evaluations" +
                      ended_by_budget(control) + ended_by_budget(*imitated);
  }
}

}  // namespace harness::report
