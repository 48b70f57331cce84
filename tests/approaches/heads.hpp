#pragma once

#include <string>

#include "harness/model/network.hpp"

namespace harness::testing {

// Networks for the tiny data, most of them differing in their dense heads (heads.cpp has their definitions).
// Untrained, their weights enlarged so that activations change their signs.
const Network& head_network(const std::string& name);

}  // namespace harness::testing
