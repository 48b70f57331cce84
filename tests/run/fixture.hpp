#pragma once

#include <filesystem>
#include <string>

#include "tests/support.hpp"

namespace harness::testing {

// A scripted network of two linear layers "a" (16 to 8) and "b" (8 to 3) on 1x4x4 images, softmax at the
// end, and data whose labels are its own answers with every fifth replaced: splits repair (40) and test (50).
// Made once by Python.
const std::filesystem::path& model_file();
const std::filesystem::path& data_file();

}  // namespace harness::testing
