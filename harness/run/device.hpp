#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "harness/core/config.hpp"

namespace harness {

// Where cells are computed (DESIGN 7): one worker a device.
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

// "CPU AMD EPYC 7763", "NVIDIA H100": what rows of RQ4 are grouped by.
std::string device_name(at::Device device);

// Waits for everything that was started on the device.
void synchronise(at::Device device);

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
