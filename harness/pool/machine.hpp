#pragma once

#include <c10/core/Device.h>

#include <filesystem>
#include <string>

namespace harness::pool {

// Whether this machine still computes and stores, tested after a cell ended without a result.

// Writes a file into `folder`, flushes it, reads it back and removes it. What went wrong, "" where nothing
// did.
std::string disk_error(const std::filesystem::path& folder);

// One trivial operation on the device, and its result read back. Throws what the device throws.
void exercise_device(c10::Device device);

}  // namespace harness::pool
