#include "harness/config/config.hpp"

#include <algorithm>
#include <set>

#include "harness/config/config_parts.hpp"
#include "harness/core/files.hpp"
#include "harness/core/json_text.hpp"
#include "harness/core/limits.hpp"
#include "harness/core/missing.hpp"

namespace harness {

namespace fs = std::filesystem;

namespace {

using nlohmann::json;

// Every subject file's JSON beside the inline ones; nothing where the file cannot be read (reported).
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

// The file's stem with everything that a folder name may not hold replaced.
std::string name_of_file(const fs::path& file) {
  std::string name = file.stem().string().substr(0, 100);
  for (size_t i = 0; i < name.size(); ++i) {
    if (!is_name(i == 0 ? name.substr(0, 1) : "a" + name.substr(i, 1), true)) name[i] = '_';
  }
  return name.empty() ? "_" : name;
}

void read_subjects(const std::vector<std::optional<SubjectDocument>>& documents, bool need_files,
                   Config* config) {
  std::set<std::string> names;
  for (const auto& document : documents) {
    if (!document) continue;
    SubjectConfig subject = read_subject(*document, need_files);
    if (!subject.name.empty() && !names.insert(subject.name).second) {
      document->place.at("name").report("the name " + quote_text(subject.name) + " again",
                                        "a name that no other subject has");
    }
    config->subjects.push_back(std::move(subject));
  }
}

// Without approaches there is something to do only where models are published. Where a subject could not be
// read nobody knows.
void demand_work(ObjectReader& object, const std::vector<std::optional<SubjectDocument>>& documents,
                 const Config& config) {
  const json* approaches = object.find("approaches");
  if (approaches == nullptr || !approaches->is_array() || !approaches->empty()) return;
  const bool all_read = std::all_of(documents.begin(), documents.end(),
                                    [](const auto& document) { return document.has_value(); });
  const bool any_published =
      std::any_of(config.subjects.begin(), config.subjects.end(),
                  [](const SubjectConfig& subject) { return !subject.published.empty(); });
  if (!all_read || any_published) return;
  object.place("approaches")
      .report("an empty list, and no subject with published models",
              "\"all\", \"study\", or a list of approaches; it may be empty where a subject names published "
              "models");
}

void read_settings(ObjectReader& object, Config* config) {
  if (const json* name = object.find("name")) {
    config->name = read_name(*name, object.place("name"), true).value_or("");
  }
  object.integer("runs", &config->runs, {1, 1e6});
  if (const json* seed = object.find("seed")) {
    config->seed = read_unsigned(*seed, object.place("seed")).value_or(config->seed);
  }
  object.number("corrupted_below", &config->corrupted_below, {0, 1});
  if (const json* device = object.find("device")) {
    if (device->is_string() && is_device(device->get<std::string>())) {
      config->device = device->get<std::string>();
    } else {
      object.place("device").report(describe(*device), "auto, cpu, cuda, or cuda: with numbers (cuda:0,2)");
    }
  }
  object.text("keep", &config->keep, {"all", "first", "none"});
  object.boolean("deterministic", &config->deterministic);
  object.boolean("tf32", &config->tf32);
  if (const json* batch = object.find_value("batch")) {
    config->batch = read_integer(*batch, object.place("batch"), {1, 1e6});
  }
  object.integer("resident_megabytes", &config->resident_megabytes, {0, 1e9});
  config->budget = read_budget(object);
  object.number("checkpoint_seconds", &config->checkpoint_seconds, {0, kMaxBudget});
}

// `folder`: what paths are relative to.
Config read_document(json document, const fs::path& file, const fs::path& folder, const Catalog& catalog,
                     const ConfigOptions& options, std::vector<Problem> problems) {
  Overrides overrides(options.set, &problems);
  overrides.apply_to_config(&document, file.string());

  Config config;
  config.file = file;
  config.name = name_of_file(file);
  ObjectReader object(document, {file.string(), "", &problems});
  read_settings(object, &config);
  if (const json* approaches = object.require("approaches")) {
    config.approaches = read_approaches(*approaches, object.place("approaches"), catalog, folder, options);
  }
  if (const json* subjects = object.require("subjects")) {
    if (subjects->is_array() && !subjects->empty()) {
      auto documents = load_subjects(*subjects, object.place("subjects"), folder);
      overrides.apply_to_subjects(&documents);
      read_subjects(documents, options.need_files, &config);
      demand_work(object, documents, config);
    } else {
      object.place("subjects").report(describe(*subjects), "a list of one subject or more");
    }
  }
  object.finish();
  overrides.attribute_to_command_line();
  if (!problems.empty()) throw UserError(std::move(problems));
  return config;
}

}  // namespace

Config read_config(const fs::path& file, const Catalog& catalog, const ConfigOptions& options) {
  std::vector<Problem> problems;
  if (const auto trouble = file_problem(file, true)) {
    throw UserError({file.string(), "", trouble->found, "a config file", trouble->suggestion});
  }
  std::optional<json> document = parse_json(read_text(file), file.string(), &problems);
  if (!document) throw UserError(std::move(problems));
  return read_document(std::move(*document), file, file.parent_path(), catalog, options, std::move(problems));
}

Config read_config_value(json document, const fs::path& name, const Catalog& catalog,
                         const ConfigOptions& options) {
  ConfigOptions once_more = options;
  once_more.again = true;
  return read_document(std::move(document), name, "", catalog, once_more, {});
}

}  // namespace harness
