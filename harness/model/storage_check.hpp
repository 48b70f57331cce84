#pragma once

// Internal to harness/model: LibTorch believes a TorchScript file what it says of its tensors' sizes.
#include <torch/csrc/jit/api/module.h>

#include <filesystem>

namespace harness {

// The module of a TorchScript file, on the CPU. Throws UserError, naming the tensor, where the file holds
// fewer bytes than a tensor's shape, strides and offset reach over: reading it would run beyond its memory.
torch::jit::Module load_whole(const std::filesystem::path& file);

}  // namespace harness
