#include <array>

#include "harness/config/config_parts.hpp"
#include "harness/core/json_text.hpp"
#include "harness/core/limits.hpp"
#include "harness/core/missing.hpp"

namespace harness {

namespace fs = std::filesystem;

namespace {

using nlohmann::json;

constexpr double kMaxSteps = 100000;
constexpr double kMaxImages = 1e9;
constexpr double kMaxRelativeStep = 1e6;  // of epsilon: nobody wants more than 1

std::optional<int64_t> read_sample(const json& value, const JsonPlace& place) {
  if (value.is_string() && value.get<std::string>() == "all") return std::nullopt;
  if (value.is_number()) return read_integer(value, place, {1, kMaxImages}).value_or(1);
  place.report(describe(value), "a whole number above 0, or \"all\"");
  return std::nullopt;
}

std::optional<std::array<double, 2>> read_bounds(const json& value, const JsonPlace& place) {
  if (value.is_string() && value.get<std::string>() == "sample") return std::nullopt;
  if (!value.is_array() || value.size() != 2) {
    place.report(describe(value), "\"sample\", or a list [low, high]");
    return std::nullopt;
  }
  const Range range{-kMaxNumber, kMaxNumber};
  const auto low = read_number(value[0], place.at(0), range),
             high = read_number(value[1], place.at(1), range);
  if (!low || !high) return std::nullopt;
  if (*low >= *high) {
    place.report(value.dump(), "low to be below high");
    return std::nullopt;
  }
  return {{*low, *high}};
}

AttackConfig read_attack(const json& value, const JsonPlace& place) {
  AttackConfig attack;
  ObjectReader object(value, place);
  if (object.require("epsilon") != nullptr) object.number("epsilon", &attack.epsilon, {0, kMaxNumber});
  std::string unit = "input", output = "as_is";
  object.text("epsilon_unit", &unit, {"input", "pixel"});
  attack.epsilon_in_pixels = unit == "pixel";
  object.integer("steps", &attack.steps, {1, kMaxSteps});
  if (const json* step = object.find_value("relative_step")) {
    attack.relative_step = read_number(*step, object.place("relative_step"),
                                       {.low = 0, .high = kMaxRelativeStep, .above_low = true});
  }
  object.boolean("random_start", &attack.random_start);
  if (const json* sample = object.find("sample"))
    attack.sample = read_sample(*sample, object.place("sample"));
  if (const json* bounds = object.find("bounds"))
    attack.bounds = read_bounds(*bounds, object.place("bounds"));
  object.text("output", &output, {"as_is", "logits"});
  attack.on_logits = output == "logits";
  object.boolean("margin", &attack.margin);
  object.finish();
  return attack;
}

TrainingConfig read_training(const json& value, const JsonPlace& place) {
  TrainingConfig training;
  ObjectReader object(value, place);
  object.text("optimizer", &training.optimizer, {"adam", "sgd"});
  object.number("learning_rate", &training.learning_rate, {.low = 0, .high = kMaxNumber, .above_low = true});
  object.number("momentum", &training.momentum, {.low = 0, .high = 1, .below_high = true});
  if (training.momentum != 0 && training.optimizer != "sgd") {
    object.place("momentum").report("it with the optimizer adam", "it with sgd only");
  }
  object.number("weight_decay", &training.weight_decay, {0, kMaxNumber});
  object.integer("batch", &training.batch, {1, 1e6});
  object.integer("epochs", &training.epochs, {1, 1e6});
  object.text("augmentation", &training.augmentation, {"none", "flip", "crop_flip"});
  object.text("initialiser", &training.initialiser, {"kaiming_uniform", "glorot_uniform"});
  object.finish();
  return training;
}

std::vector<std::string> read_groups(const json& value, const JsonPlace& place) {
  std::vector<std::string> names;
  if (value.is_array() && value.size() == 2) {
    for (size_t i = 0; i < 2; ++i) names.push_back(read_text(value[i], place.at(i)).value_or(""));
    if (names[0] != names[1] || names[0].empty()) return names;
    place.report(value.dump(), "two different names");
  } else {
    place.report(describe(value), "null, or a list of two names");
  }
  return names;
}

std::vector<fs::path> read_paths(const json& value, const JsonPlace& place, const fs::path& folder,
                                 bool needed, size_t min_value) {
  std::vector<fs::path> paths;
  if (value.is_array() && value.size() >= min_value) {
    for (size_t i = 0; i < value.size(); ++i)
      paths.push_back(read_path(value[i], place.at(i), folder, needed));
  } else {
    place.report(describe(value), min_value > 0 ? "a list of one file or more" : "a list of files");
  }
  return paths;
}

std::vector<PublishedModels> read_published(const json& value, const JsonPlace& place, const fs::path& folder,
                                            bool needed) {
  std::vector<PublishedModels> published;
  if (!value.is_object()) {
    place.report(describe(value), "an object: name of an approach -> list of model files, one a run");
    return published;
  }
  for (const auto& [key, files] : value.items()) {
    if (key == "$schema" || key == "comment") continue;
    const JsonPlace here = place.at(key);
    if (read_name(key, here, false)) published.push_back({key, read_paths(files, here, folder, needed, 1)});
  }
  return published;
}

}  // namespace

bool is_name(const std::string& text, bool dots) {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  if (text.empty() || text.size() > 100 || !is_letter(text[0])) return false;
  for (const char c : text) {
    if (!is_letter(c) && c != '-' && !(dots && c == '.')) return false;
  }
  return true;
}

std::optional<std::string> read_name(const json& value, const JsonPlace& place, bool dots) {
  if (value.is_string() && is_name(value.get<std::string>(), dots)) return value.get<std::string>();
  place.report(describe(value), std::string("a name of at most 100 letters, digits, _ and -") +
                                    (dots ? " and dots" : "") + ", the first a letter, digit or _");
  return std::nullopt;
}

fs::path read_path(const json& value, const JsonPlace& place, const fs::path& folder, bool needed,
                   bool is_data) {
  const auto text = read_text(value, place);
  if (!text) return {};
  const fs::path written = folder / *text;
  fs::path file = written.lexically_normal();
  std::error_code ignored;
  // "link/../x" is not "x" where link leads elsewhere
  if (!fs::exists(file, ignored) && fs::exists(written, ignored)) file = written;
  if (!needed) return file;
  if (const auto trouble = is_data ? data_file_problem(file) : file_problem(file)) {
    place.report(trouble->found, "a file that can be read", trouble->suggestion);
  }
  return file;
}

std::optional<Budget> read_budget(ObjectReader& object) {
  const json* value = object.find_value("budget");
  if (value == nullptr) return std::nullopt;
  ObjectReader reader(*value, object.place("budget"));
  Budget budget;
  const auto read = [&](const char* key, std::optional<double>* target) {
    const json* number = reader.find_value(key);
    if (number == nullptr) return;
    *target = read_number(*number, reader.place(key), {.low = 0, .high = kMaxBudget, .above_low = true});
  };
  read("seconds", &budget.seconds);
  read("megabytes", &budget.megabytes);
  read("device_megabytes", &budget.device_megabytes);
  const bool any = reader.find_value("seconds") != nullptr || reader.find_value("megabytes") != nullptr ||
                   reader.find_value("device_megabytes") != nullptr;
  if (reader.is_object() && !any) {
    reader.place().report("no limit",
                          "\"seconds\", \"megabytes\", \"device_megabytes\" or several; null for no budget");
  }
  reader.finish();
  return budget;
}

SubjectConfig read_subject(const SubjectDocument& document, bool need_files) {
  SubjectConfig subject;
  ObjectReader object(document.value, document.place);
  if (const json* name = object.require("name")) {
    subject.name = read_name(*name, object.place("name"), true).value_or("");
  }
  if (const json* model = object.require("model")) {
    subject.model = read_path(*model, object.place("model"), document.folder, need_files);
  }
  if (const json* data = object.require("data")) {
    subject.data = read_path(*data, object.place("data"), document.folder, need_files, true);
  }
  subject.model_name = subject.model.stem().string();
  object.text("model_name", &subject.model_name);
  if (const json* attack = object.find_value("attack")) {
    subject.attack = read_attack(*attack, object.place("attack"));
  }
  if (const json* groups = object.find_value("groups")) {
    subject.groups = read_groups(*groups, object.place("groups"));
  }
  if (const json* published = object.find("published")) {
    subject.published = read_published(*published, object.place("published"), document.folder, need_files);
  }
  if (const json* training = object.find_value("training")) {
    subject.training = read_training(*training, object.place("training"));
  }
  if (const json* history = object.find("history")) {
    subject.history = read_paths(*history, object.place("history"), document.folder, need_files, 0);
  }
  subject.budget = read_budget(object);
  object.finish();
  return subject;
}

}  // namespace harness
