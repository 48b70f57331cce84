#include "harness/measure/evaluate.hpp"

#include <iostream>

#include "harness/cli/adhoc.hpp"
#include "harness/cli/commands.hpp"
#include "harness/cli/common.hpp"
#include "harness/core/files.hpp"
#include "harness/core/limits.hpp"
#include "harness/measure/random_output.hpp"
#include "harness/report/report.hpp"

namespace harness::cli {
namespace {

struct Evaluated {
  std::string file;
  std::string corrupted;  // "not_finite: ..." or empty; if not empty, the rest is not set
  int64_t right = 0, repaired = 0, broken = 0, images = 0;
  metrics::Evaluation evaluation;
  std::string mistrusted;  // "random_output: ...", or empty
};

std::optional<AttackConfig> attack_of(const Arguments& arguments) {
  const auto epsilon = arguments.number("epsilon", 0);
  if (!epsilon) {
    for (const char* option : {"sample", "steps", "no-margin"}) {
      if (!arguments.has(option)) continue;
      throw UserError({"command line", std::string("--") + option, "it without --epsilon",
                       "--epsilon E: without it nothing is attacked", ""});
    }
    return std::nullopt;
  }
  if (*epsilon > kMaxNumber) {
    throw UserError({"command line", "--epsilon", *arguments.text("epsilon"),
                     "a number of at most " + format_number(kMaxNumber), ""});
  }
  AttackConfig attack;
  attack.epsilon = *epsilon;
  attack.steps = arguments.integer("steps", 1).value_or(attack.steps);
  attack.margin = !arguments.has("no-margin");
  if (arguments.text("sample") == "all") {
    attack.sample = std::nullopt;
  } else if (const auto sample = arguments.integer("sample", 1)) {
    attack.sample = *sample;
  }
  return attack;
}

Evaluated evaluate_one(AdHoc& opened, const std::string& file) {
  const Network fixed = opened.subject->load_model(file);
  EvaluatedModel model = evaluate_predictions(*opened.subject, *opened.original, fixed);
  Evaluated result;
  result.file = file;
  if (!model.finite()) {  // as in a run; the other models are evaluated all the same
    result.corrupted = "not_finite: " + model.not_finite;
    return result;
  }
  evaluate_attack(*opened.subject, opened.original.get(), fixed, &model);
  result.evaluation = std::move(model.evaluation);
  const Invariant steady =
      with_pass(check_random_output(fixed, opened.subject->sample(), opened.subject->batch()), model.random);
  if (!steady.holds) result.mistrusted = steady.name + ": " + steady.detail;
  const metrics::SplitOutcome& test = result.evaluation.test;
  for (size_t i = 0; i < test.label.size(); ++i) {
    const bool before = test.original[i] == test.label[i], after = test.fixed[i] == test.label[i];
    ++result.images;
    result.right += after;
    result.repaired += after && !before;
    result.broken += before && !after;
  }
  return result;
}

// The marks of all models: "mistrusted: random_output: ... (a.pt); CORRUPTED not_finite: ... (b.pt)".
std::string marks_of(const std::vector<Evaluated>& models) {
  std::string text;
  const auto add = [&](const std::string& word, const std::string& why, const std::string& file) {
    if (why.empty()) return;
    text += (text.empty() ? "" : "; ") + word + why + " (" + std::filesystem::path(file).filename().string() +
            ")";
  };
  for (const Evaluated& model : models) {
    add("mistrusted: ", model.mistrusted, model.file);
    add("CORRUPTED ", model.corrupted, model.file);
  }
  return text;
}

// One row per metric, one column per model. Joint metrics are of the images that were attacked in all models.
// `mark` is added to the reason of every row.
report::Table table_of(const std::vector<Evaluated>& models, const std::string& mark) {
  report::Table table{"evaluate", {"metric", "unit"}, {}};
  std::vector<metrics::Evaluation> runs;
  for (const Evaluated& model : models) {
    table.columns.push_back(model.file);
    if (model.corrupted.empty()) runs.push_back(model.evaluation);
  }
  for (const char* column : {"mean", "std", "reason"}) table.columns.emplace_back(column);
  runs = metrics::restrict_to_common(std::move(runs));
  for (const metrics::Metric& metric : metrics::all()) {
    report::Value value{metric.name, metric.unit, metric.table, metric.better, metric.joint, {}, ""};
    std::vector<std::string> row = {metric.name, metric.unit};
    auto run = runs.begin();
    for (const Evaluated& model : models) {
      if (!model.corrupted.empty()) {
        row.emplace_back();
        continue;
      }
      const metrics::MetricValue computed = metric.compute(*run++);
      row.push_back(computed.value ? format_number(*computed.value) : "");
      if (computed.value) value.runs.push_back(*computed.value);
      if (!computed.value) value.reason = computed.reason;
    }
    const auto mean = value.mean(), deviation = value.deviation();
    if (metric.mark_above && mean && *mean > *metric.mark_above) value.reason = metric.mark;
    row.push_back(mean ? format_number(*mean) : "");
    row.push_back(deviation ? format_number(*deviation) : "");
    const bool both = !value.reason.empty() && !mark.empty();
    row.push_back(value.reason + (both ? "; " : "") + mark);
    table.rows.push_back(std::move(row));
  }
  return table;
}

void print_text(const AdHoc& opened, const std::vector<Evaluated>& models, report::Table table) {
  const int64_t images = opened.subject->data().split("test").size();
  char accuracy[32];
  std::snprintf(accuracy, sizeof accuracy, "%.2f", opened.original->accuracy());
  std::cout << "original: " << images - opened.original->faults("test") << " of " << images << " right ("
            << accuracy << " %)\n";
  for (const Evaluated& model : models) {
    if (!model.corrupted.empty()) {
      std::cout << model.file << ": CORRUPTED " << model.corrupted << "\n";
      continue;
    }
    std::cout << model.file << ": " << model.right << " of " << model.images << " right, " << model.repaired
              << " repaired, " << model.broken << " broken\n";
    if (!model.mistrusted.empty()) std::cout << "  MISTRUSTED " << model.mistrusted << "\n";
    if (opened.subject_config.attack && !model.evaluation.attack) {
      std::cout << "  not attacked, " << model.evaluation.no_attack_reason << "\n";
    }
  }
  std::erase_if(table.rows, [](const auto& row) { return row[row.size() - 3].empty(); });
  for (auto& row : table.rows) {
    for (size_t i = 2; i + 1 < row.size(); ++i) {
      if (row[i].empty()) continue;
      const double value = std::stod(row[i]);
      const int digits = row[1] == "percent" ? 2 : row[1] != "count" ? 4 : value == std::floor(value) ? 0 : 1;
      char text[32];
      std::snprintf(text, sizeof text, "%.*f", digits, value);
      row[i] = text;
    }
  }
  for (size_t i = 0; i < models.size(); ++i) {
    std::string& column = table.columns[i + 2];
    column = std::filesystem::path(column).filename().string();
    if (!models[i].mistrusted.empty()) column += " (mistrusted)";
  }
  std::cout << "\n" << report::to_aligned({table.columns}, table.rows, 2);
}

nlohmann::json json_of(const AdHoc& opened, const std::vector<Evaluated>& models,
                       const report::Table& table) {
  nlohmann::json list = nlohmann::json::array();
  const auto metrics_in = [&](size_t column) {
    nlohmann::json values = nlohmann::json::object();
    for (const auto& row : table.rows) {
      values[row[0]] = row[column].empty() ? nlohmann::json() : nlohmann::json(std::stod(row[column]));
    }
    return values;
  };
  nlohmann::json reasons = nlohmann::json::object();  // why values are missing, and marks
  for (const auto& row : table.rows) {
    if (!row.back().empty()) reasons[row[0]] = row.back();
  }
  for (size_t i = 0; i < models.size(); ++i) {
    if (!models[i].corrupted.empty()) {
      list.push_back({{"file", models[i].file}, {"status", "CORRUPTED"}, {"reason", models[i].corrupted}});
      continue;
    }
    list.push_back({{"file", models[i].file},
                    {"status", "ok"},
                    {"right", models[i].right},
                    {"repaired", models[i].repaired},
                    {"broken", models[i].broken},
                    {"mistrusted", models[i].mistrusted},
                    {"metrics", metrics_in(i + 2)}});
  }
  return {{"images", opened.subject->data().split("test").size()},
          {"original",
           {{"right", opened.subject->data().split("test").size() - opened.original->faults("test")},
            {"ACC", opened.original->accuracy()}}},
          {"models", list},
          {"reasons", reasons},
          {"mean", metrics_in(models.size() + 2)}};
}

int evaluate(const Arguments& arguments) {
  const std::string format = arguments.choice("format", {"text", "csv", "json"});
  const std::string model = arguments.required("model"), data = arguments.required("data");
  arguments.required("fixed");
  for (const std::string& file : arguments.list("fixed")) demand_file("--fixed", file);
  const auto opened = open_ad_hoc(model, data, arguments, attack_of(arguments));
  if (!opened->subject->data().has("test")) {
    throw UserError({data, "/test", "no such group", "the split test, on which models are evaluated", ""});
  }
  std::vector<Evaluated> models;
  for (const std::string& file : arguments.list("fixed")) {
    reporter(arguments)("evaluating " + file);
    models.push_back(evaluate_one(*opened, file));
  }
  // In text the marks are printed once, beside the model.
  const report::Table table = table_of(models, format == "text" ? "" : marks_of(models));
  if (format == "csv") {
    std::cout << report::to_csv(table);
  } else if (format == "json") {
    std::cout << json_of(*opened, models, table).dump(2) << "\n";
  } else {
    print_text(*opened, models, table);
  }
  return 0;
}

}  // namespace

Command evaluate_command() {
  return {{"evaluate",
           "Compares fixed models with their original, as the study's evaluate.py does.",
           {},
           {{"data", OptionKind::single, "FILE", "data file (HDF5); its split test is used"},
            {"model", OptionKind::single, "FILE", "the original (TorchScript)"},
            {"fixed", OptionKind::list, "FILE", "fixed models, one or more"},
            {"epsilon", OptionKind::single, "E", "attack with this epsilon, in the network's input unit"},
            {"steps", OptionKind::single, "N", "steps of the attack (default 40)"},
            {"sample", OptionKind::single, "N", "images attacked (default 1000), or all"},
            {"no-margin", OptionKind::flag, "", "leave out the second attack (ASR_MARGIN)"},
            {"seed", OptionKind::single, "N", "of sampling and random start (default 42)"},
            {"batch", OptionKind::single, "N", "images per forward pass (default: follows from the model)"},
            device_option(),
            threads_option(),
            format_option(),
            quiet_option()}},
          evaluate};
}

}  // namespace harness::cli
