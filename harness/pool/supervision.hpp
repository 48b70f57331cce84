#pragma once

#include <string>

#include "harness/pool/slot.hpp"

namespace harness::pool {

// What the engine does about a cell that runs, as its worker may hang or its fix never return.

// Renews the cell's lease where that is due.
void keep_alive(Slot::Current* cell);

// Why the fix that runs in `worker` has to be ended, as the reason of its record: it is beyond its budget by
// more than a grace, in which a fix ends itself. "" where it may go on, where no fix runs, and for a fix that
// keeps its own budget.
std::string why_over_budget(Slot::Current* cell, const Budget& budget, const WorkerProcess& worker);

}  // namespace harness::pool
