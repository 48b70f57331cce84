#pragma once

#include <functional>
#include <string>
#include <vector>

#include "harness/approach/approach.hpp"
#include "harness/cell/fixing.hpp"
#include "tests/clock.hpp"

namespace harness::testing {

// One approach, or one control with what it imitates, on a network that suits it: what a property is asked
// of. The approach need not be registered.
struct Case {
  std::string text;  // "RAND:AR"
  const Approach* approach = nullptr;
  const Network* network = nullptr;
  std::function<FixContext::Setup()> setup;  // always the same fix
  std::string key() const { return approach->info.key; }
};

// Everything that is registered, on the fixtures of tests/approaches.
const std::vector<Case>& every_case();

// What a fix is given to look out for, and what is changed of it.
struct Watching {
  int64_t stop_at = -1;  // this poll and all later ones say stop; -1: none does
  std::optional<CheckpointState> saved = std::nullopt;
  bool save_often = false;  // every point where a fix could go on from
  std::function<void(FixContext::Setup&)> change = {};
};

// What a fix did. Times are of this process's processors, so that others on the machine do not count.
struct Observed {
  FixResult result;  // where it left by FixStopped: FAILURE timeout
  FixLog log;
  std::string thrown;  // text of any other exception
  int64_t polls = 0, polls_after_stop = 0;
  double seconds = 0, seconds_after_stop = 0;
  double megabytes_after_stop = 0;  // the most by which the process grew; 0 where nobody can say
  int64_t progress = 0;             // how often it was told
  bool progress_is_a_share = true;  // from 0 to 1, with a text
  std::vector<CheckpointState> saves;
  bool was_stopped() const { return polls_after_stop > 0; }
};
Observed observe(const Case& one, const Watching& watching = {});

// Of the case's own data; nothing where that has no repair split.
cell::RepairCounts repair_counts(const Case& one);

// What adapt() says, asked with the counts of the case's own data.
std::optional<Refusal> refusal_of(const Case& one);

}  // namespace harness::testing
