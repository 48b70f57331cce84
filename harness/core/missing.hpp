#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace harness {

struct FileProblem {
  std::string found;       // "no file data/mnist/mnist.h5"
  std::string suggestion;  // the command that makes it, or a file of a similar name beside it; may be empty
};

// Why `file` cannot be read as an ordinary file; nothing where it can. A device or a pipe is none, unless it
// may stream: what is read once and from its beginning.
std::optional<FileProblem> file_problem(const std::filesystem::path& file, bool may_stream = false);
// The same of a file that is to be read as data: a folder comes with the command that makes one of it.
std::optional<FileProblem> data_file_problem(const std::filesystem::path& file);

}  // namespace harness
