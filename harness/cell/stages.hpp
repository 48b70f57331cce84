#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace harness::cell {

// A cell goes through four stages (harness/docs/running.md). The first three leave a sealed file of their
// own; the last one's is record.json.
enum class Stage { fix, predict, attack, measure };
const char* to_text(Stage stage);

// What a stage left in the cell's folder.
struct StageFile {
  nlohmann::json identity;         // Identity::of_fix() and so on
  nlohmann::json content;          // of the stage's own
  std::vector<std::string> files;  // that it wrote there; their digests are taken when it is written
};

// Nothing where there is none, and where it or one of its files is damaged, absent or of another schema.
// `except` names a file that may be absent (the fixed model, where it was not kept). Throws UserError for
// files that are there and cannot be read.
std::optional<StageFile> read_stage(const std::filesystem::path& folder, Stage stage,
                                    const std::string& except = "");
void write_stage(const std::filesystem::path& folder, Stage stage, const StageFile& file);

// Removes the files of this stage and all later ones, the record first: it never lies beside files of another
// computation.
void clear_from(const std::filesystem::path& folder, Stage stage);

}  // namespace harness::cell
