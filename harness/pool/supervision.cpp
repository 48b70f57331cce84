#include "harness/pool/supervision.hpp"

#include <cmath>

#include "harness/core/clock.hpp"
#include "harness/core/files.hpp"

namespace harness::pool {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kGraceSeconds = 10;  // beyond a budget, plus a share of it
constexpr double kGraceShare = 0.1;
constexpr double kMemoryGraceSeconds = 5;  // beyond the limit of memory; far beyond it there is none
constexpr double kFarBeyond = 1.25;        // times the limit

bool is_out_of_time(const Slot::Current& cell, const Budget& budget) {
  if (!budget.seconds) return false;
  return cell.part.spent + cell.seconds_in_part() > *budget.seconds * (1 + kGraceShare) + kGraceSeconds;
}

// Megabytes by which the fix grew, where that is too much for too long.
std::optional<double> excess_growth(Slot::Current* cell, const Budget& budget, const WorkerProcess& worker) {
  const bool has_begun = cell->resident_before > 0;  // what there is before that is not the fix's own
  if (!budget.megabytes || !has_begun) return std::nullopt;
  const double growth = worker.resident_megabytes() - cell->resident_before;
  if (growth <= *budget.megabytes) {
    cell->over_memory_since.reset();
    return std::nullopt;
  }
  if (!cell->over_memory_since) cell->over_memory_since = Clock::now();
  const bool too_long = seconds_since(*cell->over_memory_since) >= kMemoryGraceSeconds;
  const bool too_much = growth >= kFarBeyond * *budget.megabytes;
  return too_long || too_much ? std::optional(growth) : std::nullopt;
}

}  // namespace

void keep_alive(Slot::Current* cell) {
  if (!cell->lease || seconds_since(cell->last_beat) <= Lease::kBeatSeconds) return;
  cell->last_beat = Clock::now();
  cell->lease->beat();
}

std::string why_over_budget(Slot::Current* cell, const Budget& budget, const WorkerProcess& worker) {
  if (cell->part.name != "fix" || cell->part.keeps_own_budget) return "";
  if (is_out_of_time(*cell, budget)) {
    return "timeout: no fix within " + format_number(*budget.seconds) + " s, and it did not stop by itself";
  }
  if (const std::optional<double> growth = excess_growth(cell, budget, worker)) {
    return "out_of_memory: grew by " + std::to_string(std::lround(*growth)) + " MB where " +
           format_number(*budget.megabytes) + " MB are allowed";
  }
  return "";
}

}  // namespace harness::pool
