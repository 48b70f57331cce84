#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace harness::testing {

// One reader of files that come from outside, fed with arbitrary bytes. What is wrong with them has to come
// as a UserError (or, where the reader says so, as nothing); any other exception, a crash, or a value that
// does not survive being written and read again is a fault of the reader. `folder` is empty before and may be
// written to.
struct FuzzTarget {
  std::string name;  // "config", "data", "script", "checkpoint", "record"
  std::function<void(std::string_view bytes, const std::filesystem::path& folder)> run;
};

// Each in a source of its own, with a description of its bytes there.
void fuzz_config(std::string_view bytes, const std::filesystem::path& folder);
void fuzz_data(std::string_view bytes, const std::filesystem::path& folder);
void fuzz_script(std::string_view bytes, const std::filesystem::path& folder);
void fuzz_checkpoint(std::string_view bytes, const std::filesystem::path& folder);
void fuzz_record(std::string_view bytes, const std::filesystem::path& folder);

const std::vector<FuzzTarget>& fuzz_targets();

// Ends the program with the message: what a fuzzer counts as a fault, and a test as a failure.
[[noreturn]] void fault(const std::string& message);

void write_bytes(const std::filesystem::path& file, std::string_view bytes);

}  // namespace harness::testing
