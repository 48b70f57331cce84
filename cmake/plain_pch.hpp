// What plans, reads, writes and tests sees this one. Catch2 is not in it, as tests/support.hpp has to take
// macros of LibTorch away before.
#include "cmake/pch.hpp"

#include <nlohmann/json.hpp>
