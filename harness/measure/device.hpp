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
  std::string note;  // what "auto" decided, for standard error
  at::Device first() const { return devices.front(); }
  std::string kind() const;  // "cpu" or "cuda"
};

// `text`: auto | cpu | cuda | cuda:0,2. Throws UserError where the device asked for is not there.
DeviceChoice choose_device(const std::string& text);

// The class alone, "cpu" or "cuda", without asking whether it is there: a plan for another machine.
std::string device_class(const std::string& text);

// "CPU AMD EPYC 7763, 64 cores", "NVIDIA H100": what rows of RQ4 are grouped by. Cores as the system sees
// them.
std::string device_name(at::Device device);

// Waits for everything that was started on the device.
void synchronise(at::Device device);

// Bytes of LibTorch's tensors on a CUDA device: now, and at most since reset_device_peak(). Zeros on the
// CPU.
struct DeviceMemory {
  double megabytes = 0, peak_megabytes = 0;  // 10^6 bytes
};
DeviceMemory device_memory(at::Device device);
void reset_device_peak(at::Device device);

// Times a phase of a cell: whatever was started on the device before it began is over then, and so is what it
// started when its seconds are asked for.
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

// Throws UserError when more or fewer than one OpenMP runtime is loaded: with two, every parallel region has
// twice the threads and times mean nothing.
void require_one_openmp();

// Collects the operators LibTorch warns of as having no deterministic form, while it lives; other warnings
// pass.
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
