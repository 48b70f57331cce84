#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace harness {

// Divides cells among `shards` tasks: the shard (from 1) of each cell. Cells are given in plan order with
// what they are expected to cost and the subject they belong to. Cells of a subject stay together as far as
// balance allows: shards are first filled in plan order up to their share, then cells move or change places
// between the fullest shard and the others while that makes the fullest one smaller; where that does not
// balance them, the dearest cells go first, each to the shard that has least. A pure function of its
// arguments.
std::vector<int64_t> divide(const std::vector<double>& costs, const std::vector<std::string>& subjects,
                            int64_t shards);

// "2,5-7" of 2, 5, 6, 7: how Slurm writes the tasks of an array; "" for none.
std::string array_range(const std::vector<int64_t>& sorted);

}  // namespace harness
