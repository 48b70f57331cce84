#include "harness/plan/redo.hpp"

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/core/process_name.hpp"

namespace harness::plan {
namespace {

using nlohmann::json;

constexpr int kTokenBytes = 16;

json json_of(const std::optional<std::string>& glob) {
  return glob ? json(*glob) : json(nullptr);
}

// Which cells a command is about; tasks of an array have redos of their own.
json subject_of(const Selection& selection) {
  return {{"redo", json_of(selection.redo)},
          {"only", json_of(selection.only)},
          {"shard", {selection.shard.index, selection.shard.count, selection.shard.task.value_or(0)}}};
}

// Nothing where there is no such file, or one that was cut short.
std::optional<std::string> token_in(const std::filesystem::path& file) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return std::nullopt;
  const json value = json::parse(read_text(file), nullptr, false);
  if (!value.is_object()) return std::nullopt;
  const json token = value.value("token", json());
  const bool whole = token.is_string() && token.get<std::string>().size() == 2 * kTokenBytes;
  return whole ? std::optional(token.get<std::string>()) : std::nullopt;
}

}  // namespace

std::optional<Redo> find_redo(const ResultsTree& tree, const Selection& selection) {
  if (!selection.redo) return std::nullopt;
  const std::string name = digest_of(subject_of(selection).dump()).substr(0, 16);
  Redo redo{tree.root() / "redo" / (name + ".json"), "", false};
  const std::optional<std::string> token = token_in(redo.file);
  redo.begun = token.has_value();
  redo.token = token.value_or(random_name(kTokenBytes));
  return redo;
}

void begin(Redo* redo) {
  if (redo->begun) return;
  make_folders(redo->file.parent_path());
  const std::string content = json{{"token", redo->token}}.dump() + "\n";
  if (write_once(redo->file, content)) return;
  if (const std::optional<std::string> token = token_in(redo->file)) {
    redo->token = *token;
  } else {
    write_atomically(redo->file, content);
  }
}

void end(const Redo& redo) {
  std::error_code ignored;
  std::filesystem::remove(redo.file, ignored);
  std::filesystem::remove(redo.file.parent_path(), ignored);  // where it was the last one
}

std::string redo_of(const std::optional<Record>& record) {
  if (!record || !record->provenance.is_object()) return "";
  const json token = record->provenance.value("redo", json());
  return token.is_string() ? token.get<std::string>() : "";
}

}  // namespace harness::plan
