#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "harness/data/dataset.hpp"

namespace harness {

// Writes a data file (harness/docs/design.md, Data; replacing `file`) with those of `splits` that `data` has,
// as far as its limits go, and with every attribute of the root: the values that are stored, images
// uncompressed and copied by slabs of at most 64 MiB, labels as int64. Returns the names of the splits it
// wrote. Throws UserError where the source cannot be read or `file` not be written.
std::vector<std::string> write_subset(const Dataset& data, const std::vector<std::string>& splits,
                                      const std::filesystem::path& file);

}  // namespace harness
