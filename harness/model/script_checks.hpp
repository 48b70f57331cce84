#pragma once

// Internal to harness/model: what is refused of a TorchScript file, each with what its owner can do about it.
#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include <filesystem>
#include <string>

namespace harness {

// Throws UserError where the source text in the archive names an operator that reaches files or other
// processes. Loading runs __setstate__ of the file's classes, so this looks before; the graphs are looked at
// after loading.
void refuse_dangerous_text(const std::filesystem::path& file);
// The same by the graphs of all methods; also quantised operators.
void refuse_operators(const torch::jit::Module& module, const std::string& file);
void refuse_number_types(const torch::jit::Module& module, const std::string& file);
// Anything but one tensor (batch, two classes or more).
void refuse_output(const c10::IValue& output, int64_t batch, const std::string& file);

std::string shape_text(c10::IntArrayRef sizes);

}  // namespace harness
