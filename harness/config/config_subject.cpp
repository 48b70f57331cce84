#include <array>

#include "harness/config/config_parts.hpp"
#include "harness/config/value_kinds.hpp"
#include "harness/core/json_text.hpp"
#include "harness/core/limits.hpp"

namespace harness {

namespace fs = std::filesystem;

namespace {

using nlohmann::json;

constexpr double kMaxSteps = 100000;
constexpr double kMaxImages = 1e9;
constexpr double kMaxRelativeStep = 1e6;  // useful values are at most 1

bool is_pair(const json& value) {
  return value.is_array() && value.size() == 2;
}

ValueKind<std::optional<int64_t>> sample_kind() {
  return unless_word(
      "all", integer_kind({1, kMaxImages}), [](const json& value) { return value.is_number(); },
      "a whole number above 0, or \"all\"");
}

ValueKind<std::optional<std::array<double, 2>>> bounds_kind() {
  const ValueKind<double> number = number_kind({-kMaxNumber, kMaxNumber});
  const auto read = [number](const json& value, const JsonPlace& place,
                             const ReadContext& context) -> std::optional<std::array<double, 2>> {
    const auto low = number.read(value[0], place.at(0), context),
               high = number.read(value[1], place.at(1), context);
    if (!low || !high) return std::nullopt;
    if (*low < *high) return {{*low, *high}};
    place.report(value.dump(), "low to be below high");
    return std::nullopt;
  };
  const auto print = [](const std::array<double, 2>& bounds) { return json(bounds); };
  const Schema schema = {{"type", "array"}, {"minItems", 2}, {"maxItems", 2}, {"items", number.schema}};
  return unless_word("sample", ValueKind<std::array<double, 2>>{read, print, schema}, is_pair,
                     "\"sample\", or a list [low, high]");
}

// Two names for the sensitive groups 0 and 1.
ValueKind<std::vector<std::string>> groups_kind() {
  const auto read = [](const json& value, const JsonPlace& place, const ReadContext&) {
    std::vector<std::string> names;
    if (is_pair(value)) {
      for (size_t i = 0; i < 2; ++i) names.push_back(read_text(value[i], place.at(i)).value_or(""));
      if (names[0] == names[1] && !names[0].empty()) place.report(value.dump(), "two different names");
    } else {
      place.report(describe(value), "null, or a list of two names");
    }
    return std::optional(names);
  };
  return {read,
          [](const std::vector<std::string>& names) { return json(names); },
          {{"type", "array"},
           {"minItems", 2},
           {"maxItems", 2},
           {"uniqueItems", true},
           {"items", reference_to("text")}}};
}

ValueKind<std::vector<PublishedModels>> published_kind() {
  const ValueKind<std::vector<fs::path>> files_of_runs = files_kind(1);
  const auto read = [files_of_runs](const json& value, const JsonPlace& place, const ReadContext& context) {
    std::vector<PublishedModels> published;
    if (!value.is_object()) {
      place.report(describe(value), "an object: name of an approach -> list of model files, one a run");
      return std::optional(published);
    }
    for (const auto& [key, files] : value.items()) {
      if (key == "$schema" || key == "comment") continue;
      const JsonPlace here = place.at(key);
      if (!read_name(key, here, false)) continue;
      published.push_back({key, *files_of_runs.read(files, here, context)});
    }
    return std::optional(published);
  };
  const auto print = [files_of_runs](const std::vector<PublishedModels>& published) {
    json printed = json::object();
    for (const PublishedModels& models : published) printed[models.key] = files_of_runs.print(models.files);
    return printed;
  };
  return {read,
          print,
          {{"type", "object"},
           {"properties", {{"$schema", true}, {"comment", true}}},
           {"patternProperties", {{"^(?!comment$)[A-Za-z0-9_][A-Za-z0-9_-]{0,99}$", files_of_runs.schema}}},
           {"additionalProperties", false}}};
}

constexpr std::array kBudgetKeys = {"seconds", "megabytes", "device_megabytes"};

void demand_any_limit(const json& value, const JsonPlace& place, const Budget&) {
  const bool any = std::any_of(kBudgetKeys.begin(), kBudgetKeys.end(),
                               [&](const char* key) { return value.contains(key) && !value[key].is_null(); });
  if (any) return;
  place.report("no limit", "\"seconds\", \"megabytes\", \"device_megabytes\" or several; null for no budget");
}

Schema any_limit() {
  Schema any = Schema::array();
  for (const char* key : kBudgetKeys) {
    any.push_back({{"required", {key}}, {"properties", {{key, {{"type", "number"}}}}}});
  }
  return {{"anyOf", any}};
}

void demand_sgd(const JsonPlace& place, const ReadContext&, const TrainingConfig* training) {
  if (training->momentum == 0 || training->optimizer == "sgd") return;
  place.report("it with the optimizer adam", "it with sgd only");
}

Schema momentum_with_sgd_only() {
  const Schema is_sgd = {{"required", {"optimizer"}}, {"properties", {{"optimizer", {{"const", "sgd"}}}}}};
  return {{"if", is_sgd}, {"else", {{"properties", {{"momentum", {{"const", 0}}}}}}}};
}

// The name of the model's file is the default of "model_name", which is read later.
void name_model(const JsonPlace&, const ReadContext&, SubjectConfig* subject) {
  subject->model_name = subject->model.stem().string();
}

}  // namespace

const ObjectTable<Budget>& budget_table() {
  static const auto limit = nullable(number_kind({.low = 0, .high = kMaxBudget, .above_low = true}));
  static const ObjectTable<Budget> table = {
      "what one fix may take, one limit or more; the budget of an approach or a subject replaces the general "
      "one",
      {field("seconds", &Budget::seconds, limit, "time of the fix"),
       field("megabytes", &Budget::megabytes, limit, "growth of resident memory, 10^6 bytes"),
       field("device_megabytes", &Budget::device_megabytes, limit,
             "growth of tensors on a CUDA device, 10^6 bytes; not for external programs")},
      demand_any_limit,
      any_limit()};
  return table;
}

ValueKind<std::optional<Budget>> budget_kind() {
  return nullable(object_kind("budget", budget_table()));
}

const ObjectTable<AttackConfig>& attack_table() {
  using Words = std::vector<std::pair<std::string, bool>>;
  static const ObjectTable<AttackConfig> table = {
      "the attack that robustness is measured with",
      {required(field("epsilon", &AttackConfig::epsilon, number_kind({0, kMaxNumber}),
                      "size of the attack, in epsilon_unit")),
       field("epsilon_unit", &AttackConfig::epsilon_in_pixels,
             choice_kind(Words{{"input", false}, {"pixel", true}}),
             "the network's input, or pixel steps of 0..255"),
       field("steps", &AttackConfig::steps, integer_kind({1, kMaxSteps}), "steps of the attack"),
       field("relative_step", &AttackConfig::relative_step,
             nullable(number_kind({.low = 0, .high = kMaxRelativeStep, .above_low = true})),
             "size of a step over epsilon; null: exactly 0.01/0.3"),
       field("random_start", &AttackConfig::random_start, boolean_kind(),
             "start at a random point within epsilon"),
       field("sample", &AttackConfig::sample, sample_kind(), "number of images to attack, or \"all\""),
       field("bounds", &AttackConfig::bounds, bounds_kind(),
             "[low, high] of the network's input, or \"sample\": minimum and maximum of the test split"),
       field("output", &AttackConfig::on_logits, choice_kind(Words{{"as_is", false}, {"logits", true}}),
             "what the loss sees: the network's output, or its logits"),
       field("margin", &AttackConfig::margin, boolean_kind(), "also measure ASR_MARGIN")}};
  return table;
}

const ObjectTable<TrainingConfig>& training_table() {
  using Training = TrainingConfig;
  static const ObjectTable<Training> table = {
      "how the original was trained; retraining approaches need it",
      {field("optimizer", &Training::optimizer, word_kind({"adam", "sgd"}), "the optimizer"),
       field("learning_rate", &Training::learning_rate,
             number_kind({.low = 0, .high = kMaxNumber, .above_low = true}), "of the optimizer"),
       followed_by(field("momentum", &Training::momentum,
                         number_kind({.low = 0, .high = 1, .below_high = true}), "sgd only"),
                   demand_sgd),
       field("weight_decay", &Training::weight_decay, number_kind({0, kMaxNumber}), "of the optimizer"),
       field("batch", &Training::batch, integer_kind({1, 1e6}), "images per step"),
       field("epochs", &Training::epochs, integer_kind({1, 1e6}), "passes over the train split"),
       field("augmentation", &Training::augmentation, word_kind({"none", "flip", "crop_flip"}),
             "random changes of the images"),
       field("initialiser", &Training::initialiser, word_kind({"kaiming_uniform", "glorot_uniform"}),
             "distribution of the first weights")},
      nullptr,
      momentum_with_sgd_only()};
  return table;
}

const ObjectTable<SubjectConfig>& subject_table() {
  using Subject = SubjectConfig;
  static const ObjectTable<Subject> table = {
      "one data set with one trained model; files are relative to the file that names them",
      {required(field("name", &Subject::name, name_kind(true), "the name in paths and tables")),
       followed_by(required(field("model", &Subject::model, path_kind(false), "TorchScript file")),
                   name_model),
       required(field("data", &Subject::data, path_kind(true), "HDF5 file")),
       field("model_name", &Subject::model_name, text_kind(),
             "the model in tables; default: the stem of its file"),
       field("attack", &Subject::attack, nullable(object_kind("attack", attack_table())),
             "null: no robustness rows"),
       field("groups", &Subject::groups, nullable(groups_kind()),
             "names of the two sensitive groups; null: those of the data file"),
       field("published", &Subject::published, published_kind(),
             "models that somebody else fixed: name -> files, one a run"),
       field("training", &Subject::training, nullable(object_kind("training", training_table())),
             "how the original was trained"),
       field("history", &Subject::history, files_kind(0), "checkpoints of the training, oldest first"),
       field("budget", &Subject::budget, budget_kind(), "of one fix; null: that of the configuration")}};
  return table;
}

nlohmann::json training_json(const TrainingConfig& training) {
  return print_object(training_table(), training);
}

}  // namespace harness
