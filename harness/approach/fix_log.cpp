#include "harness/approach/fix_log.hpp"

#include <utility>

#include "harness/core/clock.hpp"

namespace harness {

std::map<std::string, double> FixLog::phases_so_far() const {
  std::map<std::string, double> sums = phases;
  const auto now = std::chrono::steady_clock::now();
  for (const auto& [phase, start] : running)
    sums[phase] += std::chrono::duration<double>(now - start).count();
  return sums;
}

PhaseTimer::PhaseTimer(FixLog& log, std::string phase)
    : log_(log), entry_(log.running.emplace(std::move(phase), std::chrono::steady_clock::now())) {}

PhaseTimer::~PhaseTimer() {
  log_.phases[entry_->first] += seconds_since(entry_->second);
  log_.running.erase(entry_);
}

}  // namespace harness
