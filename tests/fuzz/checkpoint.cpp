// The bytes are what stands between the first line of a checkpoint and its checksum, which are added here: no
// fuzzer would ever find a right one. What is no checkpoint counts as none; one that is read survives the way
// through a file.
#include <ATen/ATen.h>

#include "harness/cell/checkpoint.hpp"
#include "harness/core/files.hpp"
#include "tests/fuzz/targets.hpp"

namespace harness::testing {

void fuzz_checkpoint(std::string_view bytes, const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "checkpoint.bin", copy = folder / "copy.bin";
  std::string content = "checkpoint 1\n" + std::string(bytes);
  content += digest_of(content);
  write_bytes(file, content);
  const std::string identity = "0123456789abcdef0123456789abcdef";
  const auto found = cell::read_checkpoint(file, identity);
  if (!found) return;
  cell::write_checkpoint(copy, identity, *found);
  const auto again = cell::read_checkpoint(copy, identity);
  if (!again || again->state.size() != found->state.size())
    fault("a checkpoint that was read cannot be kept");
  for (const auto& [name, tensor] : found->state) {
    const at::Tensor& other = again->state.at(name);
    const auto bits = [](const at::Tensor& t) {
      return std::string_view(static_cast<const char*>(t.const_data_ptr()), t.nbytes());
    };
    if (tensor.sizes() != other.sizes() || bits(tensor) != bits(other)) fault("tensor " + name + " changed");
  }
}

}  // namespace harness::testing
