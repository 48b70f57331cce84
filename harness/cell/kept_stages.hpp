#pragma once

#include <optional>

#include "harness/cell/cell.hpp"
#include "harness/cell/cell_folder.hpp"

namespace harness::cell {

// What earlier runs left in a cell's folder that is still right; a stage without the ones before it is none.
struct KeptStages {
  std::optional<StageFile> fix, predict, attack;
};
// Throws UserError for files that are there and cannot be read.
KeptStages find_kept_stages(const CellContext& context, const plan::PlanEntry& entry, plan::Reuse reuse,
                            const CellFolder& folder);

}  // namespace harness::cell
