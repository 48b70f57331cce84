#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "harness/plan/selection.hpp"
#include "harness/store/results.hpp"

namespace harness::plan {

// One pass of --redo over its cells (harness/docs/running.md). Its token is in redo/ of the results tree
// until the pass is complete, and in every checkpoint, fix and record that it makes. So the same command goes
// on after an interruption, and starts a new pass once all its cells have records of this one.
struct Redo {
  std::filesystem::path file;
  std::string token;
  bool begun = false;  // by an earlier command that did not complete it
};

// The redo of this command: the one that was begun, else a new one. Nothing without --redo. Writes nothing.
std::optional<Redo> find_redo(const ResultsTree& tree, const Selection& selection);

// Writes its file, before the first cell is computed. Where another process has begun the same one meanwhile,
// takes the token of that one. Throws UserError.
void begin(Redo* redo);
void end(const Redo& redo);

// The token of the redo that made this record, "" where none did.
std::string redo_of(const std::optional<Record>& record);

}  // namespace harness::plan
