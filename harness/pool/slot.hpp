#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "harness/pool/engine.hpp"
#include "harness/pool/worker_process.hpp"
#include "harness/store/lease.hpp"

namespace harness::pool {

// One place where cells run: a device, and the worker process on it, which is started when it is first needed
// and again after it died.
class Slot {
 public:
  // `index` among `count` slots; `device` -1 for the CPU, else the index of a visible CUDA device.
  Slot(int index, int count, int device, int64_t threads, const Config& config, const ResultsTree& tree);

  void start();  // sends the configuration
  void stop();   // ends the worker
  WorkerProcess* process() { return process_.get(); }
  int index() const { return index_; }
  int count() const { return count_; }

  // The cell that runs here; absent: idle.
  struct Current {
    plan::Task task;
    std::unique_ptr<Lease> lease;
    PartBegun part{.name = "load"};  // the last one that began
    double resident_before = 0;      // megabytes of the worker when the fix began
    std::chrono::steady_clock::time_point part_start = std::chrono::steady_clock::now();
    std::chrono::steady_clock::time_point start = part_start;
    std::chrono::steady_clock::time_point last_beat = part_start;
    std::optional<std::chrono::steady_clock::time_point> over_memory_since;
    int64_t oom_kills = 0;   // of the kernel, when the cell began
    std::string killed_for;  // reason of a record, where the engine ended it
    double seconds_in_part() const;
  };
  std::optional<Current> current;

  // A cell that ended here without a result, while a new worker shows whether the device works.
  struct Check {
    Current failed;        // keeps its lease
    std::string reason;    // "code: text", for its record
    bool of_file = false;  // a file was the reason, not the approach
    std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  };
  std::optional<Check> check;
  bool is_free() const { return !current && !check && !retired; }
  std::string subject;      // that the worker has open
  std::string device_name;  // as the worker says
  int failures_in_a_row = 0;
  bool retired = false;

 private:
  int index_, count_, device_;
  int64_t threads_;
  const Config& config_;
  const ResultsTree& tree_;
  std::unique_ptr<WorkerProcess> process_;
};

// One slot a device, or `jobs` on the CPU, never more than there is work.
std::vector<std::unique_ptr<Slot>> make_slots(const Config& config, const ResultsTree& tree,
                                              const RunOptions& options, size_t cells);

}  // namespace harness::pool
