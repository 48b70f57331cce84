#include <algorithm>

#include "harness/config/config_parts.hpp"
#include "harness/config/value_kinds.hpp"
#include "harness/core/files.hpp"
#include "harness/core/json_text.hpp"

namespace harness {

namespace fs = std::filesystem;

namespace {

using nlohmann::json;
using Splits = std::vector<std::string>;

const Splits kSplits = {"train", "validation", "repair"};

// One word of the command as the program will get it; a file's name becomes an absolute path.
std::string read_word(const json& value, const JsonPlace& place, bool first, const ReadContext& context,
                      std::vector<fs::path>* files) {
  const bool need_files = context.options.need_files;
  const std::string word = read_text(value, place).value_or("");
  const bool has_slash = word.find('/') != std::string::npos;
  if (first && !has_slash) {
    if (need_files && !word.empty() && !find_program(word)) {
      place.report("no program " + quote_text(word) + " in the PATH",
                   "a program of the PATH, or a path with a slash");
    }
    return word;
  }
  std::error_code ignored;
  const bool is_option = word.empty() || word[0] == '-';
  const bool is_file =
      !is_option && !context.options.from_effective && fs::is_regular_file(context.folder / word, ignored);
  if (is_option || (!is_file && !has_slash && !word.ends_with(".py"))) return word;
  const size_t before = place.problems->size();
  const fs::path file = fs::absolute(read_path(value, place, context.folder, need_files));
  if (place.problems->size() > before) return word;
  if (first && need_files && !find_program(file.string())) {
    place.report("a file that is no program, " + file.string(), "one that may be executed (chmod +x)");
  }
  files->push_back(file);
  return file.string();
}

void read_command(const json& value, const JsonPlace& place, const ReadContext& context,
                  ApproachConfig* approach) {
  if (!value.is_array() || value.empty()) {
    place.report(describe(value), "a list of texts: a program and its arguments");
    return;
  }
  ExternalProgram& program = *approach->external;
  for (size_t i = 0; i < value.size(); ++i) {
    program.command.push_back(read_word(value[i], place.at(i), i == 0, context, &program.files));
  }
}

// A list of splits. Each may occur once, in "needs" or in "uses".
Field<ApproachConfig> splits_field(const std::string& key, Splits ExternalProgram::*member,
                                   const std::string& meaning) {
  const auto read = [member](const json& value, const JsonPlace& place, const ReadContext&,
                             ApproachConfig* approach) {
    if (!value.is_array()) {
      place.report(describe(value), "a list of the splits train, validation and repair");
      return;
    }
    ExternalProgram& program = *approach->external;
    for (size_t i = 0; i < value.size(); ++i) {
      if (value[i] == "test") {
        place.at(i).report(describe(value[i]),
                           "train, validation or repair: what a program has seen cannot measure it");
        continue;
      }
      const auto name = read_text(value[i], place.at(i), kSplits);
      if (!name) continue;
      const auto has = [&](const Splits& splits) {
        return std::count(splits.begin(), splits.end(), *name) > 0;
      };
      if (has(program.needs) || has(program.uses)) {
        place.at(i).report("the split " + *name + " again", "each split once, under needs or under uses");
      } else {
        (program.*member).push_back(*name);
      }
    }
  };
  return {key,
          meaning,
          read,
          [member](const ApproachConfig& approach) { return json((*approach.external).*member); },
          {{"type", "array"}, {"uniqueItems", true}, {"items", {{"enum", kSplits}}}}};
}

void name_after_key(const JsonPlace& place, const ReadContext& context, ApproachConfig* approach) {
  approach->as = approach->name = approach->key;
  if (find(context.catalog, approach->key) == nullptr) return;
  place.report(describe(approach->key),
               "a name that no approach of the harness has: a command is one of its own");
}

ValueKind<Hyperparameters> any_parameters() {
  const auto read = [](const json& value, const JsonPlace& place,
                       const ReadContext&) -> std::optional<Hyperparameters> {
    if (value.is_object()) return Hyperparameters(value);
    place.report(describe(value), "an object");
    return std::nullopt;
  };
  return {read, [](const Hyperparameters& parameters) { return parameters.values(); }, {{"type", "object"}}};
}

void refuse_device_megabytes(const JsonPlace& place, const ReadContext&, const ApproachConfig* approach) {
  if (!approach->budget || !approach->budget->device_megabytes) return;
  place.at("device_megabytes")
      .report("it for an external program",
              "seconds and megabytes: nobody but the program itself knows what it has on a device");
}

ApproachConfig with_program() {
  ApproachConfig approach;
  approach.external.emplace();
  return approach;
}

}  // namespace

const ObjectTable<ApproachConfig>& external_table() {
  using Approach = ApproachConfig;
  static const ValueKind<Level> level =
      choice_kind<Level>({{"model", Level::model}, {"layer", Level::layer}, {"neuron", Level::neuron}});
  static const ObjectTable<Approach> table = {
      "an approach that is a program of one's own",
      {followed_by(required(field("key", &Approach::key, name_kind(false),
                                  "a name that no approach of the harness has")),
                   name_after_key),
       {"command",
        "the program and its arguments; a file is relative to this one",
        read_command,
        [](const Approach& approach) { return json(approach.external->command); },
        {{"type", "array"}, {"minItems", 1}, {"items", reference_to("text")}},
        true},
       splits_field("needs", &ExternalProgram::needs, "without these splits it is UNADAPTABLE"),
       splits_field("uses", &ExternalProgram::uses, "further splits that it gets where they are there"),
       field("as", &Approach::as, name_kind(false), "the name in paths and tables; default: the key"),
       field("name", &Approach::name, text_kind(), "full name in tables; default: the key"),
       field("level", &Approach::level, level, "what it changes, for tables"),
       field("parameters", &Approach::hyperparameters, any_parameters(),
             "any object; the program gets it as it is"),
       followed_by(field("budget", &Approach::budget, budget_kind(), "of one fix; null: that of the subject"),
                   refuse_device_megabytes)},
      nullptr,
      Schema::object(),
      with_program()};
  return table;
}

}  // namespace harness
