#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "harness/config/config.hpp"

namespace harness {

// Where cells are computed (harness/docs/design.md, Workers, devices and disk): one worker a device.
struct DeviceChoice {
  std::vector<at::Device> devices;
  std::string note;  // what "auto" chose, for standard error
  at::Device first() const { return devices.front(); }
  std::string kind() const;  // "cpu" or "cuda"
};

// `text`: auto | cpu | cuda | cuda:0,2. Throws UserError where that device is not there.
DeviceChoice choose_device(const std::string& text);

// Only the class, "cpu" or "cuda"; the device need not be there, as a plan may be for another machine.
std::string device_class(const std::string& text);

// "CPU AMD EPYC 7763, 64 cores", "NVIDIA H100": rows of RQ4 are grouped by it. All cores of the system
// count.
std::string device_name(at::Device device);

// Waits until the device has done everything that was started on it.
void synchronise(at::Device device);

// Memory of LibTorch's tensors on a CUDA device: now, and the most since reset_device_peak(). Zeros on the
// CPU.
struct DeviceMemory {
  double megabytes = 0, peak_megabytes = 0;  // 10^6 bytes
};
DeviceMemory device_memory(at::Device device);
void reset_device_peak(at::Device device);

// Times a phase of a cell. It waits for the device at the beginning and in seconds(), so that work started
// before the phase does not count and work of the phase does.
class PhaseClock {
 public:
  using Synchronise = std::function<void(at::Device)>;
  explicit PhaseClock(at::Device device, Synchronise synchronise = harness::synchronise);
  double seconds() const;  // so far; waits for the device

 private:
  at::Device device_;
  Synchronise synchronise_;
  std::chrono::steady_clock::time_point start_;
};

// Threads (0: LibTorch's choice), TF32 and deterministic algorithms for the whole process.
void apply_switches(const Config& config, const DeviceChoice& device, int64_t threads);

// Throws UserError unless exactly one OpenMP runtime is loaded. With two, every parallel region has twice the
// threads, and times mean nothing.
void require_one_openmp();

// While it lives, collects the operators that LibTorch warns about because they have no deterministic form.
// Other warnings are printed as usual.
class DeterminismWatch {
 public:
  DeterminismWatch();
  ~DeterminismWatch();
  DeterminismWatch(const DeterminismWatch&) = delete;
  DeterminismWatch& operator=(const DeterminismWatch&) = delete;
  const std::set<std::string>& operators() const;

 private:
  struct Handler;
  std::unique_ptr<Handler> handler_;
};

}  // namespace harness
