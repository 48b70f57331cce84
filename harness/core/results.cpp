#include "harness/core/results.hpp"

#include "harness/core/files.hpp"

namespace harness {
namespace {

using nlohmann::json;

// Digests of files that were not at hand say nothing: they go from both sides.
void drop_unknown_files(json* planned, json* recorded) {
  if (!planned->contains("files") || !recorded->contains("files")) return;
  json& left = (*planned)["files"];
  json& right = (*recorded)["files"];
  const json planned_files = left;  // a copy: the loop erases, and items() of a temporary would dangle
  for (const auto& [name, digest] : planned_files.items()) {
    if (!digest.is_null()) continue;
    left.erase(name);
    right.erase(name);
  }
}

}  // namespace

std::string PlannedCell::digest() const {
  return digest_of(identity.dump());
}

const char* to_text(CellState state) {
  switch (state) {
    case CellState::missing:
      return "missing";
    case CellState::finished:
      return "finished";
    case CellState::stale:
      return "stale";
    case CellState::outdated:
      return "outdated";
  }
  interface_misuse("no such cell state");
}

CellState state_of(const PlannedCell& planned, const std::optional<Record>& record, Compare how) {
  if (!record) return CellState::missing;
  if (record->digest == planned.digest()) return CellState::finished;
  if (!record->provenance.contains("identity")) return CellState::outdated;
  json ours = planned.identity, theirs = record->provenance["identity"];
  if (!theirs.is_object()) return CellState::outdated;
  if (how == Compare::tables) {
    for (const char* shown : {"device", "limit"}) {
      ours.erase(shown);
      theirs.erase(shown);
    }
    drop_unknown_files(&ours, &theirs);
  }
  if (ours == theirs) return CellState::finished;
  ours.erase("version");
  theirs.erase("version");
  return ours == theirs ? CellState::stale : CellState::outdated;
}

std::optional<Record> ResultsTree::read(const CellId& id) const {
  const std::filesystem::path file = record(id);
  if (!std::filesystem::exists(file)) return std::nullopt;
  try {
    Record found = Record::from_json(read_json(file), file);
    if (found.cell.text() != id.text()) {
      throw UserError({file.string(), "/cell", found.cell.text(), id.text(), ""});
    }
    return found;
  } catch (const UserError& error) {
    throw ResultsError(error.problems());
  }
}

}  // namespace harness
