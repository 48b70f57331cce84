#include "harness/store/results.hpp"

#include "harness/core/files.hpp"

namespace harness {

void PlannedCell::seal() {
  digest = identity.digest();
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
  switch (compare(planned.identity, record->identity(), how)) {
    case Match::same:
      return CellState::finished;
    case Match::other_version:
      return CellState::stale;
    case Match::different:
      return CellState::outdated;
  }
  interface_misuse("no such match");
}

FoundRecord ResultsTree::look(const CellId& id) const {
  const std::filesystem::path file = record(id);
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (status.type() == std::filesystem::file_type::not_found ||
      (error && error == std::errc::not_a_directory)) {
    return {};
  }
  try {
    Record found = Record::from_file(file);
    if (found.cell.text() != id.text()) {
      throw UserError({file.string(), "/cell", found.cell.text(), id.text(), ""});
    }
    return {std::move(found), std::nullopt};
  } catch (const UserError& damage) {
    return {std::nullopt, damage.problems().front()};
  }
}

std::optional<Record> ResultsTree::read(const CellId& id) const {
  FoundRecord found = look(id);
  if (found.damage) throw ResultsError(*found.damage);
  return std::move(found.record);
}

}  // namespace harness
