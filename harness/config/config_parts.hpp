#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/config/fields.hpp"

// The tables of the configuration's objects and the parts of read_config(): for the sources of this folder
// and for commands that read single entries.
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

// The values of --set. They are put into the documents before these are read. Problems with such a value name
// the command line instead of the file.
class Overrides {
 public:
  Overrides(const std::vector<std::pair<std::string, std::string>>& set, std::vector<Problem>* problems);
  // Applies all values but those inside of a subject that has a file of its own: see apply_to_subjects().
  void apply_to_config(nlohmann::json* document, const std::string& file);
  void apply_to_subjects(std::vector<std::optional<SubjectDocument>>* subjects);
  // Changes the file and place of problems with these values.
  void attribute_to_command_line() const;

 private:
  struct Override {
    std::string pointer;  // as given
    nlohmann::json value;
    std::optional<size_t> subject = {};  // whose file it is for
    std::string file = {};               // the document that it was put into
    std::string location = {};           // the JSON pointer in that document
  };
  // Puts a value at the pointer `inner`. False if that is no place for a value, which is reported.
  bool put(nlohmann::json* document, const Override& override, const std::string& inner) const;

  std::vector<Override> overrides_;
  std::vector<Problem>* problems_;
};

}  // namespace harness
