#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "harness/core/error.hpp"

namespace harness {

// What a file is that is given as a model and is no TorchScript (a state dict, a Git LFS pointer, a page of a
// web server, weights of Keras and so on), told by its first bytes and, of zip archives, by the names of
// their entries; with what to do instead. Nothing where it may be TorchScript. Throws no error of its own.
std::optional<Problem> problem_with_model_file(const std::filesystem::path& file);

// The cause in a message of PyTorch: of an error inside TorchScript the last line, which names it
// ("RuntimeError:
// ..."), behind pages of source text; else the first line. "operator X, which ..." for an unknown operator.
std::string cause_of(const std::string& message);

}  // namespace harness
