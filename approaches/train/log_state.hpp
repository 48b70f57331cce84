#pragma once

#include <string>
#include <vector>

#include "harness/approach/approach.hpp"

namespace harness::train {

// Series of a log in a checkpoint, under names "series.NAME": an interrupted fix goes on writing them.
void save_series(FixLog& log, const std::vector<std::string>& names, CheckpointState& state);
void load_series(FixLog& log, const std::vector<std::string>& names, const CheckpointState& state);

// All counters, scalars and series, under names "counter.NAME" and so on.
void save_log(const FixLog& log, CheckpointState& state);
void load_log(FixLog& log, const CheckpointState& state);

}  // namespace harness::train
