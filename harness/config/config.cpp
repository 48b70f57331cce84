#include "harness/config/config.hpp"

#include <algorithm>
#include <set>

#include "harness/config/config_parts.hpp"
#include "harness/config/value_kinds.hpp"
#include "harness/core/files.hpp"
#include "harness/core/json_text.hpp"
#include "harness/core/limits.hpp"
#include "harness/core/missing.hpp"

namespace harness {

namespace fs = std::filesystem;

namespace {

using nlohmann::json;

// The JSON of all subjects, inline or from files; nothing for a file that cannot be read, which is reported.
std::vector<std::optional<SubjectDocument>> load_subjects(const json& list, const JsonPlace& place,
                                                          const fs::path& folder) {
  std::vector<std::optional<SubjectDocument>> documents;
  for (size_t i = 0; i < list.size(); ++i) {
    documents.emplace_back();
    if (!list[i].is_string()) {
      documents.back() = SubjectDocument{list[i], place.at(i), folder};
      continue;
    }
    const size_t before = place.problems->size();
    const fs::path file = read_path(list[i], place.at(i), folder, true);
    if (place.problems->size() > before) continue;
    if (auto value = parse_json(read_text(file), file.string(), place.problems)) {
      documents.back() =
          SubjectDocument{std::move(*value), {file.string(), "", place.problems}, file.parent_path()};
    }
  }
  return documents;
}

bool is_device(const std::string& text) {
  if (text == "auto" || text == "cpu" || text == "cuda") return true;
  const std::string prefix = "cuda:";
  if (!text.starts_with(prefix)) return false;
  std::set<std::string> seen;
  size_t begin = prefix.size();
  while (true) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string number = text.substr(begin, end - begin);
    const bool digits = !number.empty() && number.size() <= 3 &&
                        number.find_first_not_of("0123456789") == std::string::npos &&
                        (number.size() == 1 || number[0] != '0');
    if (!digits || !seen.insert(number).second) return false;
    if (end == text.size()) return true;
    begin = end + 1;
  }
}

// The file's stem, with _ in place of characters that a name may not have.
std::string name_of_file(const fs::path& file) {
  std::string name = file.stem().string().substr(0, 100);
  for (size_t i = 0; i < name.size(); ++i) {
    if (!is_name(i == 0 ? name.substr(0, 1) : "a" + name.substr(i, 1), true)) name[i] = '_';
  }
  return name.empty() ? "_" : name;
}

std::optional<std::vector<SubjectConfig>> read_subjects(const json& value, const JsonPlace& place,
                                                        const ReadContext& context) {
  if (!value.is_array() || value.empty()) {
    place.report(describe(value), "a list of one subject or more");
    return std::nullopt;
  }
  auto documents = load_subjects(value, place, context.folder);
  context.overrides->apply_to_subjects(&documents);
  std::vector<SubjectConfig> subjects;
  std::set<std::string> names;
  for (const auto& document : documents) {
    if (!document) continue;
    ReadContext inner = context;
    inner.folder = document->folder;
    SubjectConfig subject = read_object(subject_table(), document->value, document->place, inner, {});
    if (!subject.name.empty() && !names.insert(subject.name).second) {
      document->place.at("name").report("the name " + quote_text(subject.name) + " again",
                                        "a name that no other subject has");
    }
    subjects.push_back(std::move(subject));
  }
  return subjects;
}

json print_subjects(const std::vector<SubjectConfig>& subjects) {
  json list = json::array();
  for (const SubjectConfig& subject : subjects) list.push_back(print_object(subject_table(), subject));
  return list;
}

ValueKind<std::string> device_kind() {
  const auto read = [](const json& value, const JsonPlace& place,
                       const ReadContext&) -> std::optional<std::string> {
    if (value.is_string() && is_device(value.get<std::string>())) return value.get<std::string>();
    place.report(describe(value), "auto, cpu, cuda, or cuda: with numbers (cuda:0,2)");
    return std::nullopt;
  };
  return {
      read,
      [](const std::string& device) { return json(device); },
      {{"type", "string"}, {"pattern", "^(auto|cpu|cuda(:(0|[1-9][0-9]{0,2})(,(0|[1-9][0-9]{0,2}))*)?)$"}}};
}

// Without approaches, a subject has to have published models. This is checked only if all subjects were read.
void demand_work(const json& document, const JsonPlace& place, const Config& config) {
  const auto has = [&](const char* key) { return document.contains(key) && document[key].is_array(); };
  if (!has("approaches") || !document["approaches"].empty()) return;
  if (!has("subjects") || document["subjects"].empty()) return;
  const bool all_read = config.subjects.size() == document["subjects"].size();
  const bool any_published =
      std::any_of(config.subjects.begin(), config.subjects.end(),
                  [](const SubjectConfig& subject) { return !subject.published.empty(); });
  if (!all_read || any_published) return;
  place.at("approaches")
      .report("an empty list, and no subject with published models",
              "\"all\", \"study\", or a list of approaches; it may be empty where a subject names published "
              "models");
}

Schema work_to_do() {
  const Schema no_approach = {{"properties", {{"approaches", {{"type", "array"}, {"maxItems", 0}}}}},
                              {"required", {"approaches"}}};
  const Schema may_publish = {
      {"anyOf", {{{"type", "string"}}, {{"type", "object"}, {"required", {"published"}}}}}};
  return {{"if", no_approach}, {"then", {{"properties", {{"subjects", {{"contains", may_publish}}}}}}}};
}

// `folder`: paths are relative to it.
Config read_document(json document, const fs::path& file, const fs::path& folder, const Catalog& catalog,
                     const ConfigOptions& options, std::vector<Problem> problems) {
  Overrides overrides(options.set, &problems);
  overrides.apply_to_config(&document, file.string());
  Config start;
  start.file = file;
  start.name = name_of_file(file);
  const ReadContext context{catalog, options, folder, &overrides};
  Config config = read_object(config_table(), document, {file.string(), "", &problems}, context, start);
  overrides.attribute_to_command_line();
  if (!problems.empty()) throw UserError(std::move(problems));
  return config;
}

}  // namespace

ValueKind<std::vector<SubjectConfig>> subjects_kind() {
  const Schema subject = {
      {"if", {{"type", "string"}}}, {"then", reference_to("text")}, {"else", reference_to("subject")}};
  return {read_subjects, print_subjects, {{"type", "array"}, {"minItems", 1}, {"items", subject}}};
}

const ObjectTable<Config>& config_table() {
  static const ObjectTable<Config> table = {
      "What an editor can check; harness check CONFIG knows more: files, approaches and their parameters",
      {field("name", &Config::name, name_kind(true), "name of the results folder; default: the file's"),
       field("runs", &Config::runs, integer_kind({1, 1e6}), "repetitions, each with a seed of its own"),
       field("seed", &Config::seed, unsigned_kind(), "all random numbers follow from it"),
       field("corrupted_below", &Config::corrupted_below, number_kind({0, 1}),
             "a fixed model with less than this share of the original's accuracy is CORRUPTED"),
       field("device", &Config::device, device_kind(), "auto, cpu, cuda, or cuda:0,2"),
       field("keep", &Config::keep, word_kind({"all", "first", "none"}), "which runs' fixed models stay"),
       field("deterministic", &Config::deterministic, boolean_kind(),
             "deterministic algorithms where LibTorch has any"),
       field("tf32", &Config::tf32, boolean_kind(), "TF32 on CUDA devices"),
       field("batch", &Config::batch, nullable(integer_kind({1, 1e6})),
             "images per forward pass; null: follows from the model"),
       field("resident_megabytes", &Config::resident_megabytes, integer_kind({0, 1e9}),
             "splits of more stored bytes are read in slabs"),
       field("budget", &Config::budget, budget_kind(), "of one fix; null: no limit"),
       field("checkpoint_seconds", &Config::checkpoint_seconds, number_kind({0, kMaxBudget}),
             "least time between two checkpoints of a fix"),
       required(field("approaches", &Config::approaches, approaches_kind(),
                      "\"all\", \"study\" (the sixteen), or a list; empty where only published models are "
                      "evaluated")),
       required(field("subjects", &Config::subjects, subjects_kind(),
                      "subjects, inline or as files relative to this one"))},
      demand_work,
      work_to_do()};
  return table;
}

std::string config_schema() {
  Schema schema = {{"$schema", "http://json-schema.org/draft-07/schema#"},
                   {"$comment", "made by: build/harness list schema > configs/schema.json"},
                   {"title", "A configuration of the harness"}};
  schema.update(object_schema(config_table()));
  Schema& definitions = schema["definitions"] = value_definitions();
  definitions["subject"] = object_schema(subject_table());
  definitions["attack"] = object_schema(attack_table());
  definitions["training"] = object_schema(training_table());
  definitions["budget"] = object_schema(budget_table());
  definitions["approach"] = object_schema(entry_table());
  definitions["external_approach"] = object_schema(external_table());
  return schema.dump(2) + "\n";
}

json Config::effective() const {
  return print_object(config_table(), *this);
}

Config read_config(const fs::path& file, const Catalog& catalog, const ConfigOptions& options) {
  std::vector<Problem> problems;
  if (const auto problem = file_problem(file, true)) {
    throw UserError({file.string(), "", problem->found, "a config file", problem->suggestion});
  }
  std::optional<json> document = parse_json(read_text(file), file.string(), &problems);
  if (!document) throw UserError(std::move(problems));
  return read_document(std::move(*document), file, file.parent_path(), catalog, options, std::move(problems));
}

Config read_config_value(json document, const fs::path& name, const Catalog& catalog,
                         const ConfigOptions& options) {
  ConfigOptions once_more = options;
  once_more.from_effective = true;
  return read_document(std::move(document), name, "", catalog, once_more, {});
}

}  // namespace harness
