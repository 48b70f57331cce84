#include "harness/pool/machine.hpp"

#include <ATen/ATen.h>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"

namespace harness::pool {
namespace {

// More than a cell's small files, so that a disk with a few blocks left does not pass.
constexpr size_t kProbeBytes = size_t{1} << 20;
constexpr int64_t kProbeElements = 1024;

}  // namespace

std::string disk_error(const std::filesystem::path& folder) {
  const std::filesystem::path file = temporary_name(folder / "probe");
  std::string content(kProbeBytes, '\0');
  for (size_t k = 0; k < content.size(); ++k) content[k] = static_cast<char>(k * 167 >> 3);
  try {
    write_atomically(file, content);
    const bool same = read_text(file) == content;
    std::error_code error;
    const bool removed = std::filesystem::remove(file, error);
    if (!same) return folder.string() + ": what was written is not what can be read";
    if (!removed) return folder.string() + ": a file cannot be removed: " + error.message();
    return "";
  } catch (const UserError& error) {
    std::error_code ignored;
    std::filesystem::remove(file, ignored);
    return error.what();
  }
}

void exercise_device(c10::Device device) {
  const at::Tensor ones = at::ones({kProbeElements}, device);
  const double sum = ones.sum().to(at::kCPU).item<double>();
  if (sum != kProbeElements) throw std::runtime_error("the device adds up ones to " + std::to_string(sum));
}

}  // namespace harness::pool
