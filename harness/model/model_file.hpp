#pragma once

#include <filesystem>
#include <optional>

#include "harness/core/error.hpp"

namespace harness {

// What a file is that is given as a model and is no TorchScript (a state dict, a Git LFS pointer, a page of a
// web server, weights of Keras and so on), recognised by its first bytes and, of zip archives, by the names
// of their entries; with what to do instead. Nothing where it may be TorchScript. Throws no error of its own.
std::optional<Problem> problem_with_model_file(const std::filesystem::path& file);

}  // namespace harness
