#include "harness/store/results.hpp"

#include <set>

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

void PlannedCell::seal() {
  digest = digest_of(identity.dump());
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
    case CellState::damaged:
      return "damaged";
  }
  interface_misuse("no such cell state");
}

CellState state_of(const PlannedCell& planned, const std::optional<Record>& record, Compare how) {
  if (!record) return CellState::missing;
  if (record->digest == planned.digest) return CellState::finished;
  if (!record->provenance.contains("identity")) return CellState::outdated;
  json ours = planned.identity, theirs = record->provenance["identity"];
  if (!theirs.is_object()) return CellState::outdated;
  if (how == Compare::tables) {
    for (const char* shown : {"device", "metrics"}) {
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

std::vector<std::string> differences(const json& recorded, const json& planned) {
  const json before = recorded.flatten(), now = planned.flatten();
  const auto value_in = [](const json& flat, const std::string& pointer) {
    const auto found = flat.find(pointer);  // what is empty comes out as null
    return found == flat.end() || found->is_null() ? std::string("none") : found->dump();
  };
  std::set<std::string> pointers;
  for (const json* flat : {&before, &now}) {
    for (const auto& [pointer, value] : flat->items()) pointers.insert(pointer);
  }
  std::vector<std::string> found;
  for (const std::string& pointer : pointers) {
    const std::string was = value_in(before, pointer), is = value_in(now, pointer);
    if (was == is) continue;
    const std::string limit = "/limit/";
    const std::string name = pointer.starts_with(limit) ? "--limit " + pointer.substr(limit.size())
                             : pointer.empty()          ? "all of it"
                                                        : pointer.substr(1);
    found.push_back(name + ": " + was + ", now " + is);
  }
  return found;
}

FoundRecord ResultsTree::look(const CellId& id) const {
  const std::filesystem::path file = record(id);
  std::error_code trouble;
  const auto status = std::filesystem::status(file, trouble);
  if (status.type() == std::filesystem::file_type::not_found ||
      (trouble && trouble == std::errc::not_a_directory)) {
    return {};
  }
  try {
    Record found = Record::from_file(file);
    if (found.cell.text() != id.text()) {
      throw UserError({file.string(), "/cell", found.cell.text(), id.text(), ""});
    }
    return {std::move(found), std::nullopt};
  } catch (const UserError& error) {
    return {std::nullopt, error.problems().front()};
  }
}

std::optional<Record> ResultsTree::read(const CellId& id) const {
  FoundRecord found = look(id);
  if (found.damage) throw ResultsError(*found.damage);
  return std::move(found.record);
}

}  // namespace harness
