#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "harness/plan/selection.hpp"
#include "harness/store/results.hpp"

namespace harness {

// One pass of --redo over its cells (harness/docs/running.md). It has a token, kept in redo/ of the results
// tree as long as it is not through, and in every checkpoint, fix and record that it makes: so the same
// command goes on after an interruption, and begins anew once all its cells have records of it.
struct Redo {
  std::filesystem::path file;
  std::string token;
  bool begun = false;  // by an earlier command, which did not get through
};

// That of this command: one that was begun, else a new one. Nothing without --redo. Writes nothing.
std::optional<Redo> find_redo(const ResultsTree& tree, const Selection& selection);

// Writes it down before its first cell is computed; another process that began the same one meanwhile is
// joined. Throws UserError.
void begin(Redo* redo);
void end(const Redo& redo);

// The token of the redo that made this record, "" where none did.
std::string redo_of(const std::optional<Record>& record);

}  // namespace harness
