#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/config/config.hpp"
#include "harness/core/json_reader.hpp"

// The pieces read_config() is made of; for the sources of the reader and their tests only.
namespace harness {

// A subject's JSON, inline in the config or from a file of its own.
struct SubjectDocument {
  nlohmann::json value;
  JsonPlace place;               // inline: the config file and "/subjects/0"; own file: that file and ""
  std::filesystem::path folder;  // paths are relative to it
};

SubjectConfig read_subject(const SubjectDocument& document, bool need_files);

// "all", "study" or a list of keys and entries; every name is its own. Files of external programs are
// relative to `folder`.
std::vector<ApproachConfig> read_approaches(const nlohmann::json& value, const JsonPlace& place,
                                            const Catalog& catalog, const std::filesystem::path& folder,
                                            const ConfigOptions& options);

// All of an entry that has the key "command"; what is wrong is reported.
ApproachConfig read_external(ObjectReader& object, const Catalog& catalog,
                             const std::filesystem::path& folder, const ConfigOptions& options);

// The key "budget" of any object: seconds, megabytes and device_megabytes, one or more, or null for none.
std::optional<Budget> read_budget(ObjectReader& object);

// A name that may be a folder: letters, digits, - and _ (and dots, where allowed), no - or dot first.
bool is_name(const std::string& text, bool dots);
std::optional<std::string> read_name(const nlohmann::json& value, const JsonPlace& place, bool dots);

// A path relative to `folder`, looked for where `needed`; trouble is reported. `is_data`: a data file, which
// a folder can be made into.
std::filesystem::path read_path(const nlohmann::json& value, const JsonPlace& place,
                                const std::filesystem::path& folder, bool needed, bool is_data = false);

// --set: puts values into documents before they are read, and puts the blame right afterwards.
class Overrides {
 public:
  Overrides(const std::vector<std::pair<std::string, std::string>>& set, std::vector<Problem>* problems);
  // All but those that lead into a subject that is a file of its own; these wait for apply_to_subjects().
  void apply_to_config(nlohmann::json* document, const std::string& file);
  void apply_to_subjects(std::vector<std::optional<SubjectDocument>>* subjects);
  // Problems of values that came from the command line name the command line.
  void attribute_to_command_line() const;

 private:
  struct Override {
    std::string pointer;              // as given
    std::vector<std::string> tokens;  // its parts
    nlohmann::json value;
    std::string file;      // where it was put
    std::string location;  // the JSON pointer there
    bool waiting = false;
  };
  bool put(nlohmann::json* document, const Override& override, size_t first_token) const;

  std::vector<Override> overrides_;
  std::vector<Problem>* problems_;
};

}  // namespace harness
