#include "harness/cell/stages.hpp"

#include <algorithm>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/store/sealed.hpp"

namespace harness::cell {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Of a stage's file. Older ones are made again: predictions and attacks of schema 1 do not say where a model
// is not finite or why it cannot be attacked, predictions of schema 2 not whether its answers are random.
int schema_of(Stage stage) {
  return stage == Stage::fix ? 1 : stage == Stage::predict ? 3 : 2;
}

// What every stage's content has; more may be there. A file without one of these was written by another
// version, whatever its schema says.
const std::vector<std::vector<const char*>> kContent = {
    {"record", "made_by", "nondeterministic"},
    {"phases", "made_by", "nondeterministic", "not_finite", "random", "accuracy"},
    {"phases", "made_by", "nondeterministic", "impossible"},
};

bool is_whole(Stage stage, const json& content) {
  const std::vector<const char*>& keys = kContent.at(static_cast<size_t>(stage));
  return std::all_of(keys.begin(), keys.end(), [&](const char* key) { return content.contains(key); });
}

// In the order they are removed: the stage's JSON file before the files that it describes.
const std::vector<std::vector<std::string>> kFiles = {
    {"fix.json", "fixed.pt"},
    {"predict.json", "predictions.csv", "predictions_repair.csv"},
    {"attack.json", "attack.csv"},
    {"record.json"},
};

fs::path file_of(const fs::path& folder, Stage stage) {
  return folder / kFiles[static_cast<size_t>(stage)].front();
}

}  // namespace

const char* to_text(Stage stage) {
  switch (stage) {
    case Stage::fix:
      return "fix";
    case Stage::predict:
      return "predict";
    case Stage::attack:
      return "attack";
    case Stage::measure:
      return "measure";
  }
  interface_misuse("no such stage");
}

std::optional<StageFile> read_stage(const fs::path& folder, Stage stage, const std::string& except) {
  const fs::path file = file_of(folder, stage);
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return std::nullopt;
  const std::string text = read_text(file);
  StageFile found;
  json files;
  try {
    json value = unseal(json::parse(text), file);
    if (value.at("schema") != schema_of(stage)) return std::nullopt;
    found = {value.at("identity"), value.at("content"), {}};
    if (!is_whole(stage, found.content)) return std::nullopt;
    files = value.at("files");
  } catch (const UserError&) {
    return std::nullopt;
  } catch (const json::exception&) {
    return std::nullopt;
  }
  for (const auto& [name, digest] : files.items()) {
    const bool is_there = fs::exists(folder / name, ignored);
    if (!is_there && name == except) continue;
    if (!is_there || digest_of_file(folder / name) != digest) return std::nullopt;
    found.files.push_back(name);
  }
  return found;
}

void write_stage(const fs::path& folder, Stage stage, const StageFile& file) {
  if (!is_whole(stage, file.content)) interface_misuse("a stage leaves out what its readers need");
  json files = json::object();
  for (const std::string& name : file.files) files[name] = digest_of_file(folder / name);
  write_sealed(file_of(folder, stage), {{"schema", schema_of(stage)},
                                        {"identity", file.identity},
                                        {"content", file.content},
                                        {"files", files}});
}

void clear_from(const fs::path& folder, Stage stage) {
  for (size_t k = kFiles.size(); k-- > static_cast<size_t>(stage);) {
    for (const std::string& name : kFiles[k]) fs::remove(folder / name);
  }
}

}  // namespace harness::cell
