#include "harness/model/memory_class.hpp"

#include <dlfcn.h>

#include <map>
#include <mutex>

namespace harness {
namespace {

constexpr int kGibibyte = 30;       // as a power of two
constexpr int64_t kLargeFrom = 32;  // GiB

// From the driver itself, so that no CUDA header is needed; 0 where it does not tell.
int64_t gpu_bytes(int index) {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY);
  if (driver == nullptr) return 0;
  using Init = int (*)(unsigned);
  using Get = int (*)(int*, int);
  using Total = int (*)(size_t*, int);
  const auto init = reinterpret_cast<Init>(dlsym(driver, "cuInit"));
  const auto get = reinterpret_cast<Get>(dlsym(driver, "cuDeviceGet"));
  const auto total = reinterpret_cast<Total>(dlsym(driver, "cuDeviceTotalMem_v2"));
  size_t bytes = 0;
  int device = 0;
  const bool known = init != nullptr && get != nullptr && total != nullptr && init(0) == 0 &&
                     get(&device, index) == 0 && total(&bytes, device) == 0;
  return known ? static_cast<int64_t>(bytes) : 0;
}

}  // namespace

MemoryClass memory_class_of(int64_t gpu_bytes) {
  const int64_t rounded = (gpu_bytes + (int64_t{1} << (kGibibyte - 1))) >> kGibibyte;
  return rounded >= kLargeFrom ? MemoryClass::cuda_large : MemoryClass::cuda_small;
}

MemoryClass memory_class(at::Device device) {
  if (device.is_cpu()) return MemoryClass::cpu;
  if (!device.is_cuda()) return MemoryClass::cuda_small;
  static std::mutex mutex;
  static std::map<int, MemoryClass> known;
  const int index = device.has_index() ? device.index() : 0;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(index);
  if (found != known.end()) return found->second;
  return known[index] = memory_class_of(gpu_bytes(index));
}

const char* to_text(MemoryClass size) {
  switch (size) {
    case MemoryClass::cpu:
      return "cpu";
    case MemoryClass::cuda_small:
      return "cuda small";
    default:
      return "cuda large";
  }
}

int64_t values_together(at::Device device, int64_t on_cpu) {
  const MemoryClass size = memory_class(device);
  if (size == MemoryClass::cpu) return on_cpu;
  return int64_t{1} << (size == MemoryClass::cuda_large ? 28 : 26);
}

int64_t cache_bytes(at::Device device) {
  const MemoryClass size = memory_class(device);
  return int64_t{size == MemoryClass::cpu ? 4 : size == MemoryClass::cuda_small ? 2 : 16} << kGibibyte;
}

}  // namespace harness
