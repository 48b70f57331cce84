#include "harness/pool/failure.hpp"

#include "harness/cell/provenance.hpp"
#include "harness/cell/version.hpp"
#include "harness/core/files.hpp"
#include "harness/store/sealed.hpp"

namespace harness::pool {

void write_failure(const Config& config, const ResultsTree& tree, const plan::PlanEntry& entry,
                   const Slot& slot, const Slot::Current& cell, const std::string& reason,
                   const std::optional<plan::Redo>& redo) {
  Record record;
  plan::identify(config, entry, &record);
  record.status = Status::failure;
  record.reason = reason;
  record.device = slot.device_name;
  record.concurrent_workers = slot.count();
  if (cell.part.name == "fix") record.phases["fix"] = cell.part.spent + cell.seconds_in_part();
  record.provenance = {{"harness", cell::version_provenance()},
                       {"budget", cell::to_json(plan::budget_of(config, entry))},
                       {"identity", entry.planned.identity}};
  if (redo && cell.task.reuse == plan::Reuse::nothing) record.provenance["redo"] = redo->token;
  const std::filesystem::path folder = tree.cell(entry.planned.cell);
  if (cell.lease && !Lease::is_held(folder, cell.lease->token())) throw LeaseLost{};
  make_folders(folder);
  write_sealed(tree.record(entry.planned.cell), record.to_json());
}

}  // namespace harness::pool
