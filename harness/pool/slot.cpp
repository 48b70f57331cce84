#include "harness/pool/slot.hpp"

#include <sched.h>

#include <algorithm>
#include <cstdlib>

#include "harness/core/clock.hpp"

namespace harness::pool {
namespace {

// The cores this process may use, or what the user set for OpenMP.
int64_t default_threads() {
  if (const char* given = std::getenv("OMP_NUM_THREADS")) {
    const long number = std::strtol(given, nullptr, 10);
    if (number > 0) return number;
  }
  cpu_set_t cores;
  return ::sched_getaffinity(0, sizeof cores, &cores) == 0 ? std::max(1, CPU_COUNT(&cores)) : 1;
}

// The name of the n-th visible device: CUDA_VISIBLE_DEVICES may hold numbers or UUIDs.
std::string visible_device(int n) {
  const char* given = std::getenv("CUDA_VISIBLE_DEVICES");
  if (given == nullptr) return std::to_string(n);
  std::istringstream names(given);
  std::string name;
  for (int k = 0; k <= n; ++k) {
    if (!std::getline(names, name, ',')) return std::to_string(n);
  }
  return name;
}

}  // namespace

double Slot::Current::seconds_in_part() const {
  return seconds_since(part_start);
}

Slot::Slot(int index, int count, int device, int64_t threads, const Config& config, const ResultsTree& tree)
    : index_(index), count_(count), device_(device), threads_(threads), config_(config), tree_(tree) {}

void Slot::start() {
  std::map<std::string, std::string> environment = {{"HDF5_USE_FILE_LOCKING", "FALSE"}};
  // OpenMP's threads wait for one another by spinning, which takes up to ten times longer wherever the cores
  // are also used by others, and gains nothing where they are not (measured)
  if (std::getenv("OMP_WAIT_POLICY") == nullptr && std::getenv("GOMP_SPINCOUNT") == nullptr) {
    environment["OMP_WAIT_POLICY"] = "passive";
  }
  if (threads_ > 0) {
    environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = std::to_string(threads_);
  }
  if (device_ >= 0) environment["CUDA_VISIBLE_DEVICES"] = visible_device(device_);
  // cuBLAS reads this once, when it starts; without it no product is deterministic
  if (device_ >= 0 && config_.deterministic && std::getenv("CUBLAS_WORKSPACE_CONFIG") == nullptr) {
    environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8";
  }
  subject.clear();
  process_ = std::make_unique<WorkerProcess>(environment);
  process_->send(StartWorker{.configuration = config_.effective(),
                             .limit = config_.limit,
                             .results = tree_.root().string(),
                             .device = device_ >= 0 ? "cuda:0" : "cpu",
                             .threads = threads_,
                             .workers = count_});
}

void Slot::stop() {
  process_.reset();
  subject.clear();
}

std::vector<std::unique_ptr<Slot>> make_slots(const Config& config, const ResultsTree& tree,
                                              const RunOptions& options, size_t cells) {
  const bool cuda = options.device.first().is_cuda();
  const auto wanted = static_cast<int64_t>(cuda ? options.device.devices.size() : options.jobs);
  const auto count =
      static_cast<int>(std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, static_cast<int64_t>(cells))));
  int64_t threads = options.threads;
  if (count > 1) threads = std::max<int64_t>(1, (threads > 0 ? threads : default_threads()) / count);
  std::vector<std::unique_ptr<Slot>> slots;
  for (int k = 0; k < count; ++k) {
    const int device = cuda ? options.device.devices[static_cast<size_t>(k)].index() : -1;
    slots.push_back(std::make_unique<Slot>(k, count, device, threads, config, tree));
  }
  return slots;
}

}  // namespace harness::pool
