#include "harness/model/storage_check.hpp"

#include <ATen/ATen.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/csrc/jit/serialization/import_read.h>

#include <limits>
#include <map>
#include <optional>

#include "harness/core/error.hpp"

namespace harness {
namespace {

// What is allocated on this thread, by address. A record of the file is read into memory of its own size.
class Allocations : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void* address, int64_t bytes, size_t /*total_allocated*/, size_t /*total_reserved*/,
                         c10::Device /*device*/) override {
    if (bytes > 0) {
      bytes_[address] = bytes;
    } else {
      bytes_.erase(address);
    }
  }
  bool memoryProfilingEnabled() const override { return true; }

  // Nothing where the memory is from elsewhere.
  std::optional<int64_t> bytes_at(const void* address) const {
    if (address == nullptr) return 0;
    const auto found = bytes_.find(address);
    return found == bytes_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  std::map<const void*, int64_t> bytes_;
};

constexpr int64_t kTooMany = std::numeric_limits<int64_t>::max();

// Bytes from the beginning of its storage to the end of the tensor; kTooMany for negative sizes, strides and
// offsets, and beyond what can be counted.
int64_t reach_of(const at::Tensor& tensor) {
  int64_t last = tensor.storage_offset();
  if (last < 0) return kTooMany;
  for (const int64_t size : tensor.sizes()) {
    if (size < 0) return kTooMany;
  }
  for (int64_t k = 0; k < tensor.dim(); ++k) {
    if (tensor.size(k) == 0) return 0;
  }
  for (int64_t k = 0; k < tensor.dim(); ++k) {
    int64_t span = 0;
    if (tensor.stride(k) < 0 || __builtin_mul_overflow(tensor.size(k) - 1, tensor.stride(k), &span) ||
        __builtin_add_overflow(last, span, &last)) {
      return kTooMany;
    }
  }
  int64_t bytes = 0;
  const bool fits = !__builtin_add_overflow(last, 1, &last) &&
                    !__builtin_mul_overflow(last, static_cast<int64_t>(tensor.itemsize()), &bytes);
  return fits ? bytes : kTooMany;
}

class Check {
 public:
  Check(const Allocations& allocations, const std::filesystem::path& file)
      : allocations_(allocations), file_(file) {}

  void tensor(const std::string& name, const at::Tensor& tensor) const {
    if (!tensor.defined() || !tensor.has_storage() || !tensor.device().is_cpu()) return;
    const std::optional<int64_t> there = allocations_.bytes_at(tensor.storage().data());
    const int64_t needed = reach_of(tensor);
    if (!there || needed <= *there) return;
    throw UserError(Problem{file_.string(), name, "a tensor with " + std::to_string(*there) + " bytes",
                            needed == kTooMany ? "a shape that memory can hold"
                                               : std::to_string(needed) + " bytes, as its shape says",
                            "copy or export it again"});
  }

  void value(const std::string& name, const c10::IValue& value) const {
    value.visit([&](const c10::IValue& part) {
      if (part.isTensor()) tensor(name, part.toTensor());
      return false;
    });
  }

 private:
  const Allocations& allocations_;
  const std::filesystem::path& file_;
};

}  // namespace

torch::jit::Module load_whole(const std::filesystem::path& file) {
  const auto allocations = std::make_shared<Allocations>();
  const c10::DebugInfoGuard watch(c10::DebugInfoKind::PROFILER_STATE, allocations);
  const Check check(*allocations, file);
  {  // loading reads the values of constants, so they come first
    caffe2::serialize::PyTorchStreamReader reader(file.string());
    if (reader.hasRecord("constants.pkl")) {
      check.value("a constant of the code",
                  torch::jit::readArchiveAndTensors("constants", "", "constants/", std::nullopt, std::nullopt,
                                                    at::kCPU, reader));
    }
  }
  // Without debug files: damaged ones would only be noticed when the model is saved.
  torch::jit::Module module = torch::jit::load(file.string(), at::kCPU, /*load_debug_files=*/false);
  for (const auto& item : module.named_attributes()) {
    if (!item.value.isModule()) check.value(item.name, item.value);
  }
  return module;
}

}  // namespace harness
