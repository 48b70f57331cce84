#include "harness/run/provenance.hpp"

#include <ATen/Parallel.h>

#include "harness/run/version.hpp"

namespace harness {
namespace {

using nlohmann::json;

json import_of(const ImportReport& report) {
  return {{"importable", report.importable},
          {"unknown_operator", report.unknown_operator},
          {"detail", report.detail},
          {"training_obstacle", report.training_obstacle},
          {"max_abs_difference", report.max_abs_difference},
          {"max_rel_difference", report.max_rel_difference},
          {"baked_batch", report.baked_batch}};
}

json attack_of(const CellContext& context) {
  if (!context.subject.config().attack || !context.subject.data().has("test")) return nullptr;
  const PgdOptions options = context.original.attack_options();
  return {{"epsilon_input", options.epsilon},
          {"steps", options.steps},
          {"relative_step", options.relative_step},
          {"bounds", {options.low, options.high}},
          {"order_seed", context.subject.attack_order_seed()},
          {"start_seed", context.subject.attack_start_seed()},
          {"piece", preferred_piece(context.subject.original())}};
}

}  // namespace

json provenance_of(const CellContext& context, const PlanEntry& entry,
                   const std::set<std::string>& nondeterministic) {
  const auto budget = budget_of(context.config, entry);
  const bool cuda = context.subject.original().device().is_cuda();
  return {{"harness", version_provenance()},
          {"device", {{"class", cuda ? "cuda" : "cpu"}, {"name", context.device_name}}},
          {"threads", at::get_num_threads()},
          {"precision",
           {{"tf32", context.config.tf32},
            {"deterministic", context.config.deterministic},
            {"nondeterministic_operators", nondeterministic}}},
          {"batch", context.config.batch},
          {"attack", attack_of(context)},
          {"seeds", {{"configuration", context.config.seed}, {"run", entry.planned.seed}}},
          {"network_digest", context.subject.original().digest()},
          {"import", import_of(context.subject.original().report())},
          {"budget_seconds", budget ? json(*budget) : json(nullptr)},
          {"identity", entry.planned.identity}};
}

}  // namespace harness
