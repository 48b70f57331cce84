#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "harness/core/files.hpp"

namespace harness {

// JSON files of the results tree carry a checksum of themselves under "checksum", so that a file that was cut
// short, edited or half overwritten is never taken for a result.

// Writes `value` (an object) with its checksum, atomically; text that is no UTF-8 becomes U+FFFD.
void write_sealed(const std::filesystem::path& file, nlohmann::json value, int indent = 1,
                  Flush flush = Flush::entry);

// The object without its checksum. Throws UserError for a file that cannot be read, is no JSON object, or
// whose checksum is absent or wrong.
nlohmann::json read_sealed(const std::filesystem::path& file);
// The same for a value that was read already; `file` is for the message.
nlohmann::json unseal(nlohmann::json value, const std::filesystem::path& file);

}  // namespace harness
