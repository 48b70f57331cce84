#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace harness {

struct FileProblem {
  std::string found;       // "no file data/mnist/mnist.h5"
  std::string suggestion;  // the command that makes it, or a file beside it with a similar name; or empty
};

// Why `file` cannot be read as an ordinary file; nothing if it can. Devices and pipes are refused unless
// `may_stream`: the caller reads the file once, from its beginning.
std::optional<FileProblem> file_problem(const std::filesystem::path& file, bool may_stream = false);
// The same for a data file. For a folder, the suggestion is the command that makes a data file of it.
std::optional<FileProblem> data_file_problem(const std::filesystem::path& file);

}  // namespace harness
