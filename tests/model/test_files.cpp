#include <fstream>

#include "harness/core/error.hpp"
#include "harness/model/cause.hpp"
#include "harness/model/model_file.hpp"
#include "tests/model/fixtures.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

Problem problem_with(const std::filesystem::path& file, const at::Tensor& sample = images(3)) {
  try {
    Network::load(file, sample);
  } catch (const UserError& error) {
    return error.problems().at(0);
  }
  FAIL("loaded: " << file);
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a file that is no TorchScript is called what it is, with the remedy") {
  struct Expectation {
    std::string name, found, suggestion;
  };
  const std::vector<Expectation> expected = {
      {"state_dict", "a state dict", "scripts/export"},
      {"checkpoint", "a state dict", "scripts/export"},
      {"old_state_dict", "a state dict", "scripts/export"},
      {"pickled", "a pickled model, of the class torch.nn.modules.linear.Linear", "torch.jit.script"},
      {"old_pickled", "a pickled model, of the class torch.nn.modules.linear.Linear", "torch.jit.script"},
      {"exported", "torch.export (.pt2)", "torch.jit.trace"},
      {"lfs", "Git LFS pointer", "git lfs pull"},
      {"page", "an HTML page", "download the file"},
      {"hdf5", "HDF5", "scripts/export"},
      {"keras", "Keras archive", "model.save("},
      {"safetensors", "safetensors", "scripts/export"},
      {"npz", "NumPy", "data"},
      {"empty", "an empty file", "copy"},
      {"cut", "cut off", "copy"},
      {"text", "a text file", "scripts/export"}};
  const std::filesystem::path folder = fixture("plain_scripted").parent_path();
  for (const Expectation& one : expected) {
    INFO(one.name);
    const std::filesystem::path file = folder / ("kind_" + one.name);
    const Problem problem = problem_with(file);
    CHECK(problem.file == file.string());
    INFO(problem.found << " / " << problem.suggestion);
    CHECK(contains(problem.found, one.found));
    CHECK(contains(problem.suggestion, one.suggestion));
    CHECK(contains(problem.expected, "TorchScript"));
    CHECK(problem.found.find('\n') == std::string::npos);
  }
  // Every kind that the fixtures write has a line above.
  size_t kinds = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    kinds += entry.path().filename().string().rfind("kind_", 0) == 0;
  }
  CHECK(kinds == expected.size());
}

TEST_CASE("a file cut anywhere is refused, never read beyond its end") {
  std::ifstream in(fixture("plain_scripted"), std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  const TemporaryFolder folder;
  for (size_t length = 0; length < whole.size(); length += 1 + whole.size() / 40) {
    INFO(length << " of " << whole.size() << " bytes");
    std::ofstream(folder / "cut.pt", std::ios::binary) << whole.substr(0, length);
    CHECK_FALSE(problem_with(folder / "cut.pt").found.empty());
  }
}

TEST_CASE("a damaged archive is told apart without an error") {
  std::ifstream in(fixture("plain_scripted").parent_path() / "kind_state_dict", std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  const TemporaryFolder folder;
  // The directory of entries is at the end: lengths and offsets in it become anything.
  for (size_t i = 0; i < 300; ++i) {
    std::string damaged = whole;
    damaged[damaged.size() - 1 - i] = static_cast<char>(0xff);
    std::ofstream(folder / "damaged", std::ios::binary) << damaged;
    INFO(i << " bytes before the end");
    CHECK_NOTHROW(problem_with_model_file(folder / "damaged"));
  }
}

TEST_CASE("the cause is the interpreter's last line") {
  CHECK(cause_of("The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript "
                 "(most recent "
                 "call last):\n  File \"a.py\", line 3: here\n    x = f(x)\n        ~ <--- "
                 "HERE\nRuntimeError: Given "
                 "groups=1, got 1 channels instead\n") == "Given groups=1, got 1 channels instead");
  CHECK(cause_of("a page\ntorch.jit.Error: the inner\nValueError: the outer\n  of two lines\n") ==
        "the outer");
  CHECK(cause_of("\nUnknown builtin op: a::b.\nCould not find any") ==
        "operator a::b, which LibTorch does not have");
  CHECK(cause_of("one line\nException raised from f at c.cpp:3") == "one line");
  CHECK(cause_of("") == "an error without a text");
  CHECK(cause_of(std::runtime_error("\n  \nthe first line\nthe second")) == "the first line");
  const Problem channels = problem_with(fixture("plain_scripted"), at::zeros({2, 1, 8, 8}));
  CHECK(channels.place == "forward()");
  CHECK(contains(channels.found, "to have 3 channels, but got 1 channels"));
  CHECK(contains(problem_with(fixture("plain_scripted"), at::zeros({2, 8, 8, 3})).found, "got 8 channels"));
  CHECK(contains(problem_with(fixture("plain_scripted"), at::zeros({2, 3, 9, 20})).found,
                 "shapes cannot be multiplied"));
  const Problem foreign = problem_with(fixture("foreign_scripted"));
  CHECK(contains(foreign.found, "operator torchvision::roll_of_its_own"));
  CHECK(contains(foreign.suggestion, "operators of PyTorch alone"));
}

TEST_CASE("graphs that reach files are refused before anything runs") {
  for (const std::string name : {"saves_scripted", "hidden_scripted", "from_file_scripted"}) {
    INFO(name);
    const Problem problem = problem_with(fixture(name));
    CHECK(contains(problem.found, "reaches files"));
    CHECK_FALSE(std::filesystem::exists("written"));
  }
}
