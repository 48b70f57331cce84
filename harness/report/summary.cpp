#include <algorithm>
#include <array>
#include <limits>

#include "harness/core/files.hpp"
#include "harness/report/tables.hpp"

namespace harness::report {
namespace {

struct Objective {
  const char* name;
  bool higher;
};
constexpr std::array<Objective, 6> kObjectives = {{{"RR", true},
                                                   {"NFR", false},
                                                   {"ACC_REL_IMPROVEMENT", true},
                                                   {"ASR_REL_IMPROVEMENT", true},
                                                   {"AAOD_REL_IMPROVEMENT", true},
                                                   {"TIME", false}}};
using Score = std::array<std::optional<double>, kObjectives.size()>;

Score score_of(const ApproachReport& row) {
  Score score;
  for (size_t i = 0; i < kObjectives.size(); ++i) {
    if (std::string(kObjectives[i].name) == "TIME") {
      if (row.times.size() == 1) score[i] = row.times.front().values.front().mean();
    } else if (const Value* value = row.find(kObjectives[i].name)) {
      score[i] = value->mean();
    }
  }
  return score;
}

// A missing value counts as the worst.
double goodness(const Score& score, size_t i) {
  if (!score[i]) return -std::numeric_limits<double>::infinity();
  return kObjectives[i].higher ? *score[i] : -*score[i];
}

bool dominates(const Score& a, const Score& b) {
  bool better = false;
  for (size_t i = 0; i < kObjectives.size(); ++i) {
    if (goodness(a, i) < goodness(b, i)) return false;
    better = better || goodness(a, i) > goodness(b, i);
  }
  return better;
}

// Controls are no repairs: one that changes nothing would be optimal nearly always.
bool competes(const ApproachReport& row) {
  return row.status == "ok" && row.level != Level::control;
}

bool is_optimal(const Report& report, const ApproachReport& row) {
  const Score own = score_of(row);
  return std::none_of(report.rows.begin(), report.rows.end(), [&](const ApproachReport& other) {
    return other.cell.subject == row.cell.subject && competes(other) && dominates(score_of(other), own);
  });
}

}  // namespace

Table summary_table(const Report& report) {
  Table table{"summary",
              {"subject", "model", "approach", "name", "level", "status", "reason", "runs", "ok_runs"},
              {}};
  for (const Objective& objective : kObjectives) table.columns.emplace_back(objective.name);
  table.columns.insert(table.columns.end(), {"pareto_optimal", "basis"});
  for (const ApproachReport& row : report.rows) {
    const Score own = score_of(row);
    std::string reason = row.reason;
    if (row.times.size() > 1) {
      const bool devices = std::any_of(row.times.begin(), row.times.end(), [&](const TimeGroup& group) {
        return group.device != row.times.front().device;
      });
      reason += (reason.empty() ? "" : "; ") +
                std::string(devices ? "TIME: several devices, no mean"
                                    : "TIME: several numbers of threads or workers, no mean");
    }
    for (const std::string& mark : row.marks) reason += (reason.empty() ? "" : "; ") + mark;
    std::vector<std::string> line = {row.cell.subject,
                                     row.cell.model,
                                     row.cell.approach,
                                     row.name,
                                     to_text(row.level),
                                     row.status,
                                     reason,
                                     std::to_string(row.recorded),
                                     std::to_string(row.ok_runs)};
    for (const auto& value : own) line.push_back(value ? format_number(*value) : "");
    line.emplace_back(!competes(row) ? "" : is_optimal(report, row) ? "yes" : "no");
    line.emplace_back(to_text(row.basis));
    table.rows.push_back(std::move(line));
  }
  return table;
}

}  // namespace harness::report
