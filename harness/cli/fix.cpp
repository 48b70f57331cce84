#include <chrono>
#include <iostream>

#include "harness/cell/checks.hpp"
#include "harness/cli/adhoc.hpp"
#include "harness/cli/commands.hpp"
#include "harness/cli/common.hpp"
#include "harness/core/files.hpp"
#include "harness/core/stop_signals.hpp"
#include "harness/measure/evaluate.hpp"

namespace harness::cli {
namespace {

nlohmann::json parameters_from(const std::vector<std::string>& assignments) {
  nlohmann::json parameters = nlohmann::json::object();
  for (const std::string& text : assignments) {
    const auto [name, value] = parse_assignment("--set", text);
    const nlohmann::json parsed = nlohmann::json::parse(value, nullptr, false);
    parameters[name] = parsed.is_discarded() ? nlohmann::json(value) : parsed;
  }
  return parameters;
}

nlohmann::json split_json(const metrics::SplitOutcome& outcome) {
  int64_t before = 0, after = 0, repaired = 0, broken = 0;
  for (size_t i = 0; i < outcome.label.size(); ++i) {
    const bool was = outcome.original[i] == outcome.label[i], is = outcome.fixed[i] == outcome.label[i];
    before += was;
    after += is;
    repaired += is && !was;
    broken += was && !is;
  }
  return {{"images", outcome.label.size()},
          {"right_before", before},
          {"right_after", after},
          {"repaired", repaired},
          {"broken", broken}};
}

// Counts before and after the fix, on the repair and the test split.
nlohmann::json effect_of(const AdHoc& opened, const Network& fixed) {
  nlohmann::json effect = nlohmann::json::object();
  for (const char* split : {"repair", "test"}) {
    const Dataset& data = opened.subject->data();
    if (!data.has(split)) continue;
    Predictions predictions = predict(fixed, data.split(split), opened.subject->batch());
    effect[split] = split_json(
        {opened.subject->labels(split), opened.original->classes(split), std::move(predictions.classes), {}});
    effect[split]["not_finite"] = predictions.not_finite;
  }
  return effect;
}

void print(const nlohmann::json& value, const std::string& format) {
  if (format == "json") {
    std::cout << value.dump(2) << "\n";
    return;
  }
  std::cout << "status: " << value["status"].get<std::string>() << "\n";
  const std::string reason = value["reason"];
  if (!reason.empty()) std::cout << "reason: " << reason << "\n";
  if (const std::string detail = value.value("model_detail", ""); reason.find(detail) == std::string::npos) {
    std::cout << "model: " << detail << "\n";
  }
  if (!value.contains("out")) return;
  std::cout << "fixed model: " << value["out"].get<std::string>() << "\n";
  char time[32];
  std::snprintf(time, sizeof time, "%.1f", value["seconds"].get<double>());
  std::cout << "time: " << time << " s\n";
  for (const auto& [name, split] : value["effect"].items()) {
    std::cout << name << ": " << split["right_before"] << " -> " << split["right_after"] << " of "
              << split["images"] << " right, " << split["repaired"] << " repaired, " << split["broken"]
              << " broken\n";
  }
  for (const nlohmann::json& failed : value["failed_checks"]) {
    std::cout << "MISTRUSTED: the check of " << failed.get<std::string>() << " failed\n";
  }
}

// Saves the model, reads it back and compares, since the file has to behave as the model in memory.
void save(const AdHoc& opened, const Network& fixed, const std::filesystem::path& out) {
  AtomicFile file(out);
  fixed.save(file.temporary());
  const at::Tensor sample = opened.subject->sample().to(fixed.device());
  const Network reloaded = opened.subject->load_model(file.temporary());
  if (!at::equal(reloaded.classify(sample), fixed.classify(sample))) {
    throw std::runtime_error("the saved model does not reload to the same predictions");
  }
  file.commit();
}

int fix(const Arguments& arguments) {
  const std::string format = arguments.choice("format", {"text", "json"});
  const std::string model = arguments.required("model"), data = arguments.required("data"),
                    key = arguments.required("approach"), out = arguments.required("out");
  const ApproachConfig entry = approach_entry(key, parameters_from(arguments.list("set")));
  if (std::error_code absent; std::filesystem::equivalent(out, model, absent)) {
    throw UserError({"command line", "--out", "the model to fix, " + out, "another file", ""});
  }
  { const AtomicFile probe(out); }  // finds now, not after hours, that it cannot be written
  install_stop_signals(true);
  const auto opened = open_ad_hoc(model, data, arguments, std::nullopt);
  const auto say = reporter(arguments);
  auto last_said = std::chrono::steady_clock::now();
  cell::FixJob job =
      cell::fix_job(*find_approach(entry.key), *opened->subject, entry, opened->repair_counts(),
                    derive_seed(opened->config.seed, opened->subject_config.name + "/" + entry.as + "/1"));
  job.budget = {.seconds = arguments.number("budget", 0)};
  job.progress = [&](double done, const std::string& what) {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_said < std::chrono::seconds(5)) return;
    last_said = now;
    say(std::to_string(std::lround(100 * done)) + " % " + what);
  };
  cell::FixOutcome outcome = cell::run_fix(job);
  nlohmann::json value = {
      {"status", to_text(outcome.status)}, {"reason", outcome.reason}, {"seconds", outcome.seconds}};
  // As `inspect` has it: why there is no layer graph, or why the model cannot be changed.
  const ImportReport& report = opened->subject->original().report();
  if (!report.detail.empty()) value["model_detail"] = report.detail;
  if (outcome.status == Status::ok) {
    const Network& fixed = *outcome.result.network;
    save(*opened, fixed, out);
    std::map<std::string, int64_t> counters = outcome.log.counters;
    value["failed_checks"] = nlohmann::json::array();
    for (const Invariant& check :
         cell::check_parameters(opened->subject->original(), fixed, outcome.result.touched, &counters)) {
      if (!check.holds) value["failed_checks"].push_back(check.name);
    }
    value["out"] = out;
    value["counters"] = counters;
    value["effect"] = effect_of(*opened, fixed);
    for (const nlohmann::json& split : value["effect"]) {
      if (split["not_finite"] == "") continue;
      value["status"] = to_text(Status::corrupted);
      value["reason"] = "not_finite: " + split["not_finite"].get<std::string>();
    }
  }
  print(value, format);
  return value["status"] == "ok" ? 0 : 1;
}

}  // namespace

Command fix_command() {
  return {{"fix",
           "Applies one approach to one model and writes the fixed model; no configuration.",
           {},
           {{"model", OptionKind::single, "FILE", "the model to fix (TorchScript)"},
            {"data", OptionKind::single, "FILE", "data file (HDF5) with the splits the approach needs"},
            {"approach", OptionKind::single, "KEY", "harness list approaches"},
            {"out", OptionKind::single, "FIXED.pt", "where the fixed model goes"},
            {"set", OptionKind::repeated, "NAME=VALUE", "a parameter of the approach; repeatable"},
            {"budget", OptionKind::single, "SECONDS", "stop searching after this time (default: none)"},
            {"seed", OptionKind::single, "N", "default 42"},
            {"batch", OptionKind::single, "N", "images per forward pass (default: follows from the model)"},
            device_option(),
            threads_option(),
            {"format", OptionKind::single, "FORMAT", "text (default) or json"},
            quiet_option()}},
          fix};
}

}  // namespace harness::cli
