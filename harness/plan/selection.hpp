#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

namespace harness::plan {

// "MNIST/*/1": * any text, also over slashes; ? one character; nothing else is special.
bool matches(const std::string& glob, const std::string& text);

// Part i of n, from 1. Which cells belong to it: cells_of_shard() in plan_file.hpp.
struct Shard {
  int64_t index = 1, count = 1;  // count 0: an array with gaps, which only plan.json can explain
  // Number of the array task; where plan.json is divided it is the shard of that division.
  std::optional<int64_t> task = std::nullopt;
  bool is_part() const { return count != 1 || task; }
};

// "--shard 2/4"; without it Slurm's array variables (SLURM_ARRAY_TASK_ID, _MIN, _MAX, _COUNT), all or none of
// them. Throws UserError where only some are set, or they are no array.
Shard choose_shard(const std::optional<std::string>& option);

// Which cells of a plan the command line selects.
struct Selection {
  std::optional<std::string> only, redo;  // globs over subject/approach/run
  std::set<std::string> retry;            // reason codes, such as "crashed"
  Shard shard;
};

}  // namespace harness::plan
