#include "tests/support.hpp"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>

namespace harness::testing {

int (*worker_entry)() = nullptr;

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "harness_test_XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder: " + pattern);
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string run_python(const std::string& program) {
  TemporaryFolder folder;
  std::ofstream(folder / "program.py") << program;
  std::string interpreter = "python3";
  if (const char* given = std::getenv("HARNESS_PYTHON")) {
    interpreter = given;
  } else if (std::filesystem::exists(".venv/bin/python")) {
    interpreter = ".venv/bin/python";
  }
  const std::string command =
      interpreter + " " + (folder / "program.py").string() + " 2>" + (folder / "errors").string();
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot start " + interpreter);
  std::string output;
  std::array<char, 4096> buffer;
  for (size_t count; (count = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    output.append(buffer.data(), count);
  if (pclose(pipe) != 0) {
    std::ifstream errors(folder / "errors");
    throw std::runtime_error("Python failed:\n" + std::string(std::istreambuf_iterator<char>(errors), {}));
  }
  return output;
}

void skip_process(const std::string& reason) {
  std::printf("skipped: %s\n", reason.c_str());
  std::exit(77);
}

}  // namespace harness::testing
