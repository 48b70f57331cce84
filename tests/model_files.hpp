#pragma once

#include <map>
#include <memory>
#include <string>

#include "tests/support.hpp"

namespace harness::testing {

// The folder that a Python text has written its models into, where it says FOLDER. Each text runs once a
// process.
inline const std::filesystem::path& models_of(const std::string& program) {
  static std::map<std::string, std::unique_ptr<TemporaryFolder>> folders;
  std::unique_ptr<TemporaryFolder>& folder = folders[program];
  if (!folder) {
    auto made = std::make_unique<TemporaryFolder>();
    std::string text = program;
    for (size_t at = 0; (at = text.find("FOLDER", at)) != std::string::npos;) {
      text.replace(at, 6, made->path().string());
    }
    run_python(text);
    folder = std::move(made);
  }
  return folder->path();
}

}  // namespace harness::testing
