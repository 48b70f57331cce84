#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "harness/core/error.hpp"

// Pieces of the messages between planner and worker (worker.hpp lists these).
namespace harness {

nlohmann::json to_json(const std::vector<Problem>& problems);
std::vector<Problem> problems_of(const nlohmann::json& value);
void throw_if_any(const std::vector<Problem>& problems);  // UserError with those that differ

}  // namespace harness
