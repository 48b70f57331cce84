#include "harness/cell/provenance.hpp"

#include <ATen/Parallel.h>

#include "harness/cell/version.hpp"
#include "harness/core/process_memory.hpp"
#include "harness/model/memory_class.hpp"

namespace harness::cell {
namespace {

using nlohmann::json;

json import_of(const ImportReport& report) {
  return {{"importable", report.importable},
          {"unknown_operator", report.unknown_operator},
          {"detail", report.detail},
          {"training_obstacle", report.training_limitation},
          {"max_abs_difference", report.max_abs_difference},
          {"max_rel_difference", report.max_rel_difference},
          {"baked_batch", report.baked_batch}};
}

json attack_of(const CellContext& context) {
  if (!context.subject.config().attack || !context.subject.data().has("test")) return nullptr;
  const PgdOptions options = context.original.attack_options();
  const std::optional<double> full_scale = context.subject.full_scale();
  return {{"epsilon_input", options.epsilon},
          {"pixel_full_scale", full_scale ? json(*full_scale) : json(nullptr)},
          {"steps", options.steps},
          {"relative_step", options.relative_step},
          {"bounds", {options.low, options.high}},
          {"order_seed", context.subject.attack_order_seed()},
          {"start_seed", context.subject.attack_start_seed()},
          {"piece", preferred_piece(context.subject.original())}};
}

// The effective configuration of this cell, files by their names alone.
json configuration_of(const CellContext& context, const plan::PlanEntry& entry) {
  const Config& config = context.config;
  json whole = config.effective(), part;
  for (const char* key : {"name", "runs", "seed", "corrupted_below", "device", "keep", "deterministic",
                          "tf32", "batch", "resident_megabytes", "budget", "checkpoint_seconds"}) {
    part[key] = whole[key];
  }
  part["subject"] = whole["subjects"][static_cast<size_t>(entry.subject - config.subjects.data())];
  if (entry.approach != nullptr) {
    part["approach"] = whole["approaches"][static_cast<size_t>(entry.approach - config.approaches.data())];
  }
  const auto shorten = [](json& text) {
    if (text.is_string()) text = std::filesystem::path(text.get<std::string>()).filename().string();
  };
  json& subject = part["subject"];
  for (const char* key : {"model", "data"}) shorten(subject[key]);
  for (json& file : subject["history"]) shorten(file);
  for (json& files : subject["published"]) {
    for (json& file : files) shorten(file);
  }
  if (part.contains("approach") && part["approach"].contains("command")) {
    for (json& word : part["approach"]["command"]) shorten(word);
  }
  return part;
}

}  // namespace

json to_json(const Budget& budget) {
  const auto number = [](const std::optional<double>& value) { return value ? json(*value) : json(nullptr); };
  return {{"seconds", number(budget.seconds)},
          {"megabytes", number(budget.megabytes)},
          {"device_megabytes", number(budget.device_megabytes)}};
}

json maker_of(const CellContext& context) {
  return {{"harness", version_provenance()},
          {"device", context.device_name},
          {"threads", at::get_num_threads()},
          {"workers", context.workers},
          {"peak_megabytes", peak_megabytes()}};
}

json provenance_of(const CellContext& context, const plan::PlanEntry& entry,
                   const std::set<std::string>& nondeterministic) {
  const bool cuda = context.subject.original().device().is_cuda();
  return {{"harness", version_provenance()},
          {"device",
           {{"class", cuda ? "cuda" : "cpu"},
            {"name", context.device_name},
            {"memory", to_text(memory_class(context.subject.original().device()))}}},
          {"threads", at::get_num_threads()},
          {"precision",
           {{"tf32", context.config.tf32},
            {"deterministic", context.config.deterministic},
            {"nondeterministic_operators", nondeterministic}}},
          {"batch", context.subject.batch()},
          {"attack", attack_of(context)},
          {"seeds", {{"configuration", context.config.seed}, {"run", entry.planned.seed}}},
          {"network_digest", context.subject.original().digest()},
          {"import", import_of(context.subject.original().report())},
          {"budget", to_json(plan::budget_of(context.config, entry))},
          {"configuration", configuration_of(context, entry)},
          {"identity", entry.planned.identity}};
}

}  // namespace harness::cell
