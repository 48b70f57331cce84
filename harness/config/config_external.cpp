#include <set>

#include "harness/config/config_parts.hpp"
#include "harness/core/files.hpp"
#include "harness/core/json_text.hpp"

namespace harness {

namespace fs = std::filesystem;

namespace {

using nlohmann::json;

void read_splits(ObjectReader& object, const std::string& key, std::set<std::string>* seen,
                 std::vector<std::string>* splits) {
  const json* list = object.find(key);
  if (list == nullptr) return;
  const JsonPlace place = object.place(key);
  if (!list->is_array()) {
    place.report(describe(*list), "a list of the splits train, validation and repair");
    return;
  }
  for (size_t i = 0; i < list->size(); ++i) {
    const json& entry = (*list)[i];
    if (entry == "test") {
      place.at(i).report(describe(entry),
                         "train, validation or repair: what a program has seen cannot measure it");
    } else if (const auto name = read_text(entry, place.at(i), {"train", "validation", "repair"})) {
      if (seen->insert(*name).second) {
        splits->push_back(*name);
      } else {
        place.at(i).report("the split " + *name + " again", "each split once, under needs or under uses");
      }
    }
  }
}

// One word as it is handed to the program.
std::string read_word(const json& value, const JsonPlace& place, bool first, const fs::path& folder,
                      const ConfigOptions& options, std::vector<fs::path>* files) {
  const std::string word = read_text(value, place).value_or("");
  const bool has_slash = word.find('/') != std::string::npos;
  if (first && !has_slash) {
    if (options.need_files && !word.empty() && !find_program(word)) {
      place.report("no program " + quote_text(word) + " in the PATH",
                   "a program of the PATH, or a path with a slash");
    }
    return word;
  }
  std::error_code ignored;
  const bool is_option = word.empty() || word[0] == '-';
  const bool is_file = !is_option && !options.again && fs::is_regular_file(folder / word, ignored);
  if (is_option || (!is_file && !has_slash && !word.ends_with(".py"))) return word;
  const size_t before = place.problems->size();
  const fs::path file = fs::absolute(read_path(value, place, folder, options.need_files));
  if (place.problems->size() > before) return word;
  if (first && options.need_files && !find_program(file.string())) {
    place.report("a file that is no program, " + file.string(), "one that may be executed (chmod +x)");
  }
  files->push_back(file);
  return file.string();
}

void read_command(const json& value, const JsonPlace& place, const fs::path& folder,
                  const ConfigOptions& options, ExternalProgram* program) {
  if (!value.is_array() || value.empty()) {
    place.report(describe(value), "a list of texts: a program and its arguments");
    return;
  }
  for (size_t i = 0; i < value.size(); ++i) {
    program->command.push_back(read_word(value[i], place.at(i), i == 0, folder, options, &program->files));
  }
}

Level level_of(const std::string& text) {
  if (text == "layer") return Level::layer;
  return text == "neuron" ? Level::neuron : Level::model;
}

}  // namespace

ApproachConfig read_external(ObjectReader& object, const Catalog& catalog, const fs::path& folder,
                             const ConfigOptions& options) {
  ApproachConfig approach;
  ExternalProgram& program = approach.external.emplace();
  if (const json* key = object.require("key")) {
    approach.key = read_name(*key, object.place("key"), false).value_or("");
    if (find(catalog, approach.key) != nullptr) {
      object.place("key").report(describe(*key),
                                 "a name that no approach of the harness has: a command is one of its own");
    }
  }
  if (const json* command = object.find("command")) {
    read_command(*command, object.place("command"), folder, options, &program);
  }
  std::set<std::string> seen;
  read_splits(object, "needs", &seen, &program.needs);
  read_splits(object, "uses", &seen, &program.uses);
  approach.as = approach.name = approach.key;
  if (const json* name = object.find("as")) {
    approach.as = read_name(*name, object.place("as"), false).value_or("");
  }
  object.text("name", &approach.name);
  std::string level = "model";
  object.text("level", &level, {"model", "layer", "neuron"});
  approach.level = level_of(level);
  if (const json* parameters = object.find("parameters")) {
    if (parameters->is_object()) {
      approach.hyperparameters = Hyperparameters(*parameters);
    } else {
      object.place("parameters").report(describe(*parameters), "an object");
    }
  }
  approach.budget = read_budget(object);
  if (approach.budget && approach.budget->device_megabytes) {
    object.place("budget")
        .at("device_megabytes")
        .report("it for an external program",
                "seconds and megabytes: nobody but the program itself "
                "knows what it has on a device");
  }
  object.finish();
  return approach;
}

}  // namespace harness
