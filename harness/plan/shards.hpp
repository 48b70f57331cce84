#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace harness::plan {

// Divides cells among `shards` tasks; returns the shard (from 1) of each cell. `costs` (expected seconds) and
// `subjects` have one entry for each cell, in plan order. Cells of a subject stay together as far as balance
// allows: shards are first filled in plan order up to their share; then cells move between the fullest shard
// and the others, or change places, while that makes the fullest one smaller. Where the shards are still not
// balanced, the most expensive cells are dealt out first, each to the shard with the least. A pure function
// of its arguments.
std::vector<int64_t> divide(const std::vector<double>& costs, const std::vector<std::string>& subjects,
                            int64_t shards);

// "2,5-7" of 2, 5, 6, 7: how Slurm writes the tasks of an array; "" for none.
std::string array_range(const std::vector<int64_t>& sorted);

}  // namespace harness::plan
