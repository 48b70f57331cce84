#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "harness/data/dataset.hpp"

namespace harness {

// Writes those of `splits` that `data` has, up to its limits, into a new data file (harness/docs/design.md,
// Data), and every attribute of the root; replaces `file`. Values are copied as stored, by slabs of at most
// 64 MiB; images are not compressed, and labels become int64. Returns the names of the splits it wrote.
// Throws UserError where the source cannot be read or `file` cannot be written.
std::vector<std::string> write_subset(const Dataset& data, const std::vector<std::string>& splits,
                                      const std::filesystem::path& file);

}  // namespace harness
