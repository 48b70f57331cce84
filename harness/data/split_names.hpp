#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace harness {

// The splits that a data file has groups for, in the order train, validation, repair, test. Their content is
// neither read nor checked. Empty where the file cannot be opened; Dataset::open() then says why.
std::vector<std::string> splits_in(const std::filesystem::path& file);

}  // namespace harness
