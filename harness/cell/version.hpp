#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace harness::cell {

std::string harness_version();        // "0.1.0 (commit 1a2b3c4, with uncommitted changes)"
nlohmann::json version_provenance();  // version, commit, dirty, compiler, libtorch

}  // namespace harness::cell
