// Inputs on which a reader once failed, and seeded mutations of good ones. tests/long/fuzz looks for more.
#include <fstream>
#include <random>

#include "harness/core/error.hpp"
#include "tests/fuzz/targets.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

std::string bytes_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  if (!std::filesystem::exists(folder)) return files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

// Good inputs of every target, written once by the script that the long fuzzing starts from, too.
const std::filesystem::path& good_inputs() {
  static const TemporaryFolder folder;
  static const bool made = [] {
    run_python("import runpy, sys\nsys.argv = ['corpus.py', '" + folder.path().string() +
               "']\nrunpy.run_path('tests/fuzz/corpus.py', run_name='__main__')\n");
    setenv("HARNESS_FUZZ_MODEL", (folder / "model.pt").c_str(), 1);
    return true;
  }();
  (void)made;
  return folder.path();
}

void run(const FuzzTarget& target, const std::string& bytes) {
  const TemporaryFolder scratch;
  CHECK_NOTHROW(target.run(bytes, scratch.path()));
}

// One of: a changed byte, a part taken out, a part doubled, a number made huge.
std::string mutated(std::string bytes, std::mt19937_64& random) {
  if (bytes.empty()) return "x";
  const size_t place = random() % bytes.size(),
               length = 1 + random() % std::min<size_t>(bytes.size() - place, 64);
  switch (random() % 4) {
    case 0:
      bytes[place] = static_cast<char>(random());
      return bytes;
    case 1:
      return bytes.erase(place, length);
    case 2:
      return bytes.insert(place, bytes.substr(place, length));
    default:
      return bytes.replace(place, length, std::string(length, '\xff'));
  }
}

}  // namespace

TEST_CASE("inputs that once were the end of a reader") {
  good_inputs();
  for (const FuzzTarget& target : fuzz_targets()) {
    for (const auto& file : files_in("tests/fuzz/seeds/" + target.name)) {
      INFO(file);
      run(target, bytes_of(file));
    }
  }
}

TEST_CASE("good inputs and what becomes of them when they are damaged") {
  constexpr int kMutants = 20;  // of every good input
  for (const FuzzTarget& target : fuzz_targets()) {
    const auto files = files_in(good_inputs() / target.name);
    REQUIRE(!files.empty());
    std::mt19937_64 random(1);
    for (const auto& file : files) {
      INFO(target.name << ' ' << file.filename());
      const std::string bytes = bytes_of(file);
      run(target, bytes);
      for (int k = 0; k < kMutants; ++k) run(target, mutated(bytes, random));
    }
  }
}
