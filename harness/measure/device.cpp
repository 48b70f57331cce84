#include "harness/measure/device.hpp"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <torch/cuda.h>
#include <unistd.h>

#include <cstdlib>

#include "harness/core/clock.hpp"
#include "harness/core/error.hpp"
#include "harness/core/parse_number.hpp"

namespace harness {
namespace {

// All cores that the system has, however many are used: a machine with more cores is another device.
std::string cpu_name() {
  const int64_t cores = ::sysconf(_SC_NPROCESSORS_ONLN);
  const std::string count = ", " + std::to_string(cores) + (cores == 1 ? " core" : " cores");
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const size_t colon = line.find(':');
    if (colon != std::string::npos && colon + 2 < line.size()) return "CPU " + line.substr(colon + 2) + count;
  }
  return "CPU" + count;
}

// From the driver's library, so that no CUDA header is needed (cmake/FindLibTorch.cmake).
std::string cuda_name(int index) {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY);
  if (driver == nullptr) return "CUDA device";
  using Init = int (*)(unsigned);
  using Get = int (*)(int*, int);
  using Name = int (*)(char*, int, int);
  const auto init = reinterpret_cast<Init>(dlsym(driver, "cuInit"));
  const auto get = reinterpret_cast<Get>(dlsym(driver, "cuDeviceGet"));
  const auto name = reinterpret_cast<Name>(dlsym(driver, "cuDeviceGetName"));
  char text[256] = "CUDA device";
  int device = 0;
  if (init != nullptr && get != nullptr && name != nullptr && init(0) == 0 && get(&device, index) == 0) {
    name(text, sizeof text, device);
  }
  return text;
}

[[noreturn]] void refuse(const std::string& text, const std::string& expected) {
  throw UserError({"", "--device or /device", '"' + text + '"', expected, ""});
}

std::vector<at::Device> cuda_devices(const std::string& text, int64_t present) {
  std::vector<at::Device> devices;
  std::istringstream list(text.size() > 5 ? text.substr(5) : "");
  for (std::string part; std::getline(list, part, ',');) {
    const auto index = parse_number<int64_t>(part);
    if (!index || *index < 0 || *index >= present) {
      refuse(text, "CUDA devices from 0 to " + std::to_string(present - 1));
    }
    devices.emplace_back(at::kCUDA, static_cast<c10::DeviceIndex>(*index));
  }
  for (int64_t i = 0; devices.empty() && text == "cuda" && i < present; ++i) {
    devices.emplace_back(at::kCUDA, static_cast<c10::DeviceIndex>(i));
  }
  std::sort(devices.begin(), devices.end(), [](auto a, auto b) { return a.index() < b.index(); });
  return devices;
}

}  // namespace

std::string DeviceChoice::kind() const {
  return first().is_cuda() ? "cuda" : "cpu";
}

DeviceChoice choose_device(const std::string& text) {
  if (text == "cpu") return {{at::Device(at::kCPU)}, ""};
  if (text != "auto" && text != "cuda" && text.rfind("cuda:", 0) != 0) {
    refuse(text, "auto, cpu, cuda, or cuda:0,2");
  }
  const int64_t present = torch::cuda::is_available() ? torch::cuda::device_count() : 0;
  if (text == "auto" && present == 0) return {{at::Device(at::kCPU)}, "no CUDA device here: on the CPU"};
  if (present == 0) refuse(text, "cpu or auto: LibTorch finds no CUDA device here");
  DeviceChoice choice{cuda_devices(text == "auto" ? "cuda" : text, present), ""};
  if (choice.devices.empty()) refuse(text, "auto, cpu, cuda, or cuda:0,2");
  return choice;
}

std::string device_class(const std::string& text) {
  if (text.rfind("cuda", 0) == 0) return "cuda";
  return choose_device(text).kind();
}

std::string device_name(at::Device device) {
  return device.is_cuda() ? cuda_name(device.index()) : cpu_name();
}

void synchronise(at::Device device) {
  if (device.is_cuda()) torch::cuda::synchronize(device.index());
}

namespace {

// LibTorch's allocator for that device, by an interface that needs no CUDA header. Null on the CPU, and
// before the first allocation on the device.
c10::DeviceAllocator* allocator_of(at::Device device) {
  if (!device.is_cuda()) return nullptr;
  auto* allocator = c10::getDeviceAllocator(device.type());
  return allocator != nullptr && allocator->initialized() ? allocator : nullptr;
}

c10::DeviceIndex index_of(at::Device device) {
  return device.has_index() ? device.index() : c10::DeviceIndex{0};
}

constexpr auto kAllPools = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);

}  // namespace

DeviceMemory device_memory(at::Device device) {
  c10::DeviceAllocator* allocator = allocator_of(device);
  if (allocator == nullptr) return {};
  const c10::CachingAllocator::Stat bytes =
      allocator->getDeviceStats(index_of(device)).allocated_bytes[kAllPools];
  return {static_cast<double>(bytes.current) / 1e6, static_cast<double>(bytes.peak) / 1e6};
}

void reset_device_peak(at::Device device) {
  if (c10::DeviceAllocator* allocator = allocator_of(device)) allocator->resetPeakStats(index_of(device));
}

PhaseClock::PhaseClock(at::Device device, Synchronise synchronise)
    : device_(device), synchronise_(std::move(synchronise)) {
  synchronise_(device_);
  start_ = std::chrono::steady_clock::now();
}

double PhaseClock::seconds() const {
  synchronise_(device_);
  return seconds_since(start_);
}

void apply_switches(const Config& config, const DeviceChoice& device, int64_t threads) {
  // cuBLAS reads this once, when it starts; without it matrix products are not deterministic
  if (config.deterministic && device.kind() == "cuda") setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
  if (threads > 0) at::set_num_threads(static_cast<int>(threads));
  at::Context& context = at::globalContext();
  context.setDeterministicAlgorithms(config.deterministic, device.kind() == "cuda");
  context.setDeterministicFillUninitializedMemory(false);
  context.setDeterministicCuDNN(config.deterministic);
  context.setBenchmarkCuDNN(false);
  context.setAllowTF32CuBLAS(config.tf32);
  context.setAllowTF32CuDNN(config.tf32);
}

void require_one_openmp() {
  std::set<std::string> runtimes;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const size_t slash = line.find('/');
    if (slash == std::string::npos) continue;
    const std::string file = std::filesystem::path(line.substr(slash)).filename().string();
    for (const char* name : {"libgomp", "libomp", "libiomp5"}) {
      const std::string prefix = name;
      const bool ends =
          file.size() > prefix.size() && (file[prefix.size()] == '.' || file[prefix.size()] == '-');
      if (file.rfind(prefix, 0) == 0 && ends) runtimes.insert(file);
    }
  }
  if (runtimes.size() == 1) return;
  std::string found;
  for (const std::string& file : runtimes) found += (found.empty() ? "" : ", ") + file;
  throw UserError({"this process", "OpenMP runtimes", found.empty() ? "none" : found, "exactly one",
                   "build with the LibTorch that is also loaded, and preload no other OpenMP"});
}

struct DeterminismWatch::Handler : c10::WarningHandler {
  void process(const c10::Warning& warning) override {
    const std::string& text = warning.msg();
    const size_t at = text.find(" does not have a deterministic implementation");
    if (at == std::string::npos) {
      previous->process(warning);
    } else {
      found.insert(text.substr(0, at));
    }
  }
  c10::WarningHandler* previous = c10::WarningUtils::get_warning_handler();
  std::set<std::string> found;
};

DeterminismWatch::DeterminismWatch() : handler_(std::make_unique<Handler>()) {
  c10::WarningUtils::set_warning_handler(handler_.get());
}

DeterminismWatch::~DeterminismWatch() {
  c10::WarningUtils::set_warning_handler(handler_->previous);
}

const std::set<std::string>& DeterminismWatch::operators() const {
  return handler_->found;
}

}  // namespace harness
