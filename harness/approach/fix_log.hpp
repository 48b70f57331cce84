#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace harness {

// What fix() says about its work; goes into the record.
struct FixLog {
  std::map<std::string, double> phases;               // seconds of timers that have ended
  std::map<std::string, int64_t> counters;            // "evaluations", "optimiser_steps"
  std::map<std::string, double> scalars;              // "front_size", "best_fitness"
  std::map<std::string, std::vector<double>> series;  // "best_fitness" per generation
  std::multimap<std::string, std::chrono::steady_clock::time_point> running;  // timers that have not ended

  // `phases` and the time of the running timers so far; kept in checkpoints.
  std::map<std::string, double> phases_so_far() const;
};

// Adds the seconds of its lifetime to a phase.
class PhaseTimer {
 public:
  PhaseTimer(FixLog& log, std::string phase);
  ~PhaseTimer();
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;

 private:
  FixLog& log_;
  std::multimap<std::string, std::chrono::steady_clock::time_point>::iterator entry_;
};

}  // namespace harness
