#pragma once

#include <string>

#include "harness/model/network.hpp"

namespace harness::testing {

// A scripted network for the tiny data: the lines of __init__ behind super().__init__() and forward(), with
// nn, F and torch at hand. Untrained, seeded, its weights enlarged so that activations change their signs.
Network head_network(const std::string& definition);

}  // namespace harness::testing
