#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/config/fields.hpp"

// The tables of the configuration's objects and the parts of read_config(); for the sources of this folder,
// for programs that read single entries, and for tests.
namespace harness {

const ObjectTable<Budget>& budget_table();
const ObjectTable<AttackConfig>& attack_table();
const ObjectTable<TrainingConfig>& training_table();
const ObjectTable<SubjectConfig>& subject_table();
const ObjectTable<ApproachConfig>& entry_table();     // an approach of the catalog
const ObjectTable<ApproachConfig>& external_table();  // an approach with the key "command"
const ObjectTable<Config>& config_table();

// The key "budget" of any object, or null for none.
ValueKind<std::optional<Budget>> budget_kind();

// "all", "study" or a list of keys and entries; every name may occur once.
ValueKind<std::vector<ApproachConfig>> approaches_kind();
std::vector<ApproachConfig> read_approaches(const nlohmann::json& value, const JsonPlace& place,
                                            const ReadContext& context);

// A list of subjects, inline or as files of their own; every name may occur once.
ValueKind<std::vector<SubjectConfig>> subjects_kind();

// A subject's JSON, inline in the config or from a file of its own.
struct SubjectDocument {
  nlohmann::json value;
  JsonPlace place;               // inline: the config file and "/subjects/0"; own file: that file and ""
  std::filesystem::path folder;  // paths are relative to it
};

// --set: puts values into documents before they are read, and makes problems of these values name the command
// line.
class Overrides {
 public:
  Overrides(const std::vector<std::pair<std::string, std::string>>& set, std::vector<Problem>* problems);
  // All but those that lead into a subject that is a file of its own; these wait for apply_to_subjects().
  void apply_to_config(nlohmann::json* document, const std::string& file);
  void apply_to_subjects(std::vector<std::optional<SubjectDocument>>* subjects);
  void attribute_to_command_line() const;

 private:
  struct Override {
    std::string pointer;  // as given
    nlohmann::json value;
    std::optional<size_t> subject = {};  // waits for the file of this one
    std::string file = {};               // where it was put
    std::string location = {};           // the JSON pointer there
  };
  // `inner`: the pointer in that document.
  bool put(nlohmann::json* document, const Override& override, const std::string& inner) const;

  std::vector<Override> overrides_;
  std::vector<Problem>* problems_;
};

}  // namespace harness
