#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "harness/core/error.hpp"
#include "harness/store/identity.hpp"
#include "harness/store/record.hpp"

namespace harness {

// A results tree that holds something no run of this harness writes; exit 4 (harness/docs/design.md, Exit
// codes).
class ResultsError : public UserError {
 public:
  using UserError::UserError;
};

// One cell of the plan, as run and report see it.
struct PlannedCell {
  CellId cell;
  std::string key, name;  // "RAND", "Random weights (Arachne)"
  Level level = Level::control;
  Basis basis = Basis::none;
  bool in_study = false;
  uint64_t seed = 0;
  Identity identity;
  std::string digest;  // of `identity`: set by seal()
  void seal();
};

enum class CellState {
  missing,
  finished,
  stale,     // made by another version of the approach: kept until --redo
  outdated,  // made from another configuration, model or data: recomputed, and no result of this plan
  damaged,   // record.json is none, or another cell's: set aside and recomputed
};
const char* to_text(CellState state);

CellState state_of(const PlannedCell& planned, const std::optional<Record>& record, Compare how);

// What lies where a cell's record should be: a record, or what is wrong with it, or neither.
struct FoundRecord {
  std::optional<Record> record;
  std::optional<Problem> damage;
};

// Where everything of a results folder lies (results/README.md).
class ResultsTree {
 public:
  explicit ResultsTree(std::filesystem::path root) : root_(std::move(root)) {}
  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path plan() const { return root_ / "plan.json"; }
  std::filesystem::path digests() const { return root_ / "digests.json"; }  // a cache (files.hpp)
  std::filesystem::path tables() const { return root_ / "tables"; }
  std::filesystem::path subject(const std::string& name) const { return root_ / "subjects" / name; }
  std::filesystem::path cell(const CellId& id) const { return root_ / "cells" / id.folder(); }
  std::filesystem::path record(const CellId& id) const { return cell(id) / "record.json"; }
  FoundRecord look(const CellId& id) const;
  // The same, for whom damage is an error: throws ResultsError.
  std::optional<Record> read(const CellId& id) const;

 private:
  std::filesystem::path root_;
};

}  // namespace harness
