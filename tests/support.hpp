#pragma once

// The one header of the tests: LibTorch first, Catch last, because both define CHECK.
#include <ATen/ATen.h>
#undef CHECK

#include <cstdlib>
#include <filesystem>
#include <string>

namespace harness::testing {

// A fresh folder under the system's temporary one, removed with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Runs a Python program text with the interpreter of the tests (HARNESS_PYTHON, else python3 of the PATH,
// else
// ./.venv); returns its standard output, fails the test with its standard error when it exits non-zero.
std::string run_python(const std::string& program);

// What this program does when the run engine starts it again as a worker; set by tests of the engine, whose
// approaches are registered here.
extern int (*worker_entry)();

// Ends the whole test program with ctest's code for "skipped"; for tests on data that is not there.
[[noreturn]] void skip_process(const std::string& reason);

}  // namespace harness::testing

#include <catch2/catch.hpp>
