#pragma once

#include "harness/plan/redo.hpp"
#include "harness/pool/slot.hpp"

namespace harness::pool {

// Writes the record of a cell that the engine ended, or that ended its worker. Throws UserError, and
// LeaseLost where another process has the cell.
void write_failure(const Config& config, const ResultsTree& tree, const plan::PlanEntry& entry,
                   const Slot& slot, const Slot::Current& cell, const std::string& reason,
                   const std::optional<plan::Redo>& redo);

}  // namespace harness::pool
