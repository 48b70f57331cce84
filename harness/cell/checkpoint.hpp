#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "harness/approach/approach.hpp"

namespace harness::cell {

// What an interrupted fix had used up at its last checkpoint.
struct FixSpent {
  double seconds = 0;
  std::map<std::string, double> phases = {};
  int64_t interruptions = 0;  // before this checkpoint
};

// The state of a fix that goes on later: checkpoint.bin in the cell's folder, one file with a JSON header,
// the tensors' bytes (on the CPU, contiguous) and a checksum.
struct Checkpoint {
  CheckpointState state;
  FixSpent spent;
  std::string redo = {};     // token of the redo that it belongs to (redo.hpp), where it does
  std::string scratch = {};  // an external program's folder beside the checkpoint
};

// `identity`: digest of the fix's identity. Nothing where there is no file, or one that is damaged or of
// another fix: then the fix starts from its beginning. Throws UserError for a file that is there and cannot
// be read, as it may hold days of work.
std::optional<Checkpoint> read_checkpoint(const std::filesystem::path& file, const std::string& identity);
void write_checkpoint(const std::filesystem::path& file, const std::string& identity,
                      const Checkpoint& checkpoint);

}  // namespace harness::cell
