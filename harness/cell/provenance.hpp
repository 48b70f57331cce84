#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "harness/cell/cell.hpp"

namespace harness::cell {

nlohmann::json to_json(const Budget& budget);

// All that one needs to know to make a record again: versions, device, switches, seeds, digests, the part of
// the configuration that decides the result. No names of users, hosts or absolute paths.
nlohmann::json maker_of(const CellContext& context);  // version and machine alone: of one stage
nlohmann::json provenance_of(const CellContext& context, const plan::PlanEntry& entry,
                             const std::set<std::string>& nondeterministic);

}  // namespace harness::cell
