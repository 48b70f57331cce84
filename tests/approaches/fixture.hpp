#pragma once

#include "harness/approach/approach.hpp"

namespace harness::testing {

// A tiny scripted network (two convolutions, two dense layers, softmax at the end) on 2x8x8 images of four
// classes, with untrained weights, and data whose labels are its own answers, one in six of them replaced.
// The splits are train (96), validation (24), repair (120) and test (24). Made once by Python.
const Network& tiny_network();
const Dataset& tiny_data();

// All that FixContext needs for one approach on the tiny data.
FixContext::Setup setup_for(const std::string& key,
                            const nlohmann::json& parameters = nlohmann::json::object(),
                            const std::string& shadow = "");

// What a fix gave, and what it logged.
struct Outcome {
  FixResult result;
  FixLog log;
};
// One fix of the approach that `setup` is for.
Outcome run(FixContext::Setup setup, const Network& network = tiny_network());

// (parameter name, flat index) of every value whose bits differ.
std::vector<std::pair<std::string, int64_t>> changed_values(const Network& a, const Network& b);

// A checkpoint slot in memory.
struct MemorySlot {
  std::optional<CheckpointState> state;
  int saves = 0;
  CheckpointSlot slot();
};

// A fix that starts again from some of its checkpoints, as after a kill, must end as the whole one did. At
// least five checkpoints are asked for.
void require_same_from_checkpoints(const std::string& key, const nlohmann::json& parameters,
                                   const Network& network);

// A fix stopped at some of its polls, from the first to the last, has a network or failed by timeout; going
// on from the checkpoint that it left, or anew without one, it ends as the whole one did. Some of the stops
// must leave a network, and some a checkpoint.
void require_same_after_stops(const std::function<FixContext::Setup()>& make,
                              const Network& network = tiny_network());

}  // namespace harness::testing
