#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "harness/approach/approach.hpp"
#include "tests/support.hpp"

namespace harness::testing {

// A scripted network of two linear layers "a" (16 to 8) and "b" (8 to 3) on 1x4x4 images, softmax at the
// end, and data whose labels are its own answers with every fifth replaced: splits repair (40) and test (50).
// Made once by Python.
const std::filesystem::path& model_file();
const std::filesystem::path& data_file();

// Approaches that only a test has; always true, so that a static object can call it.
using Fix = std::function<FixResult(const Network&, FixContext&)>;
bool add_approach(const std::string& key, Fix fix, const std::string& needs = "repair");
FixResult no_fix();
FixResult unchanged(const Network& original);

}  // namespace harness::testing
