#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace harness {

// Who computes a cell says so in lease.json of its folder (README.md of this folder). Advice, not a lock:
// results are right without it, only work may be done twice.
class Lease {
 public:
  // Takes the lease of a cell's folder (made where it is absent), also one whose owner is gone. Nothing where
  // a living process has it.
  static std::unique_ptr<Lease> take(const std::filesystem::path& folder);
  ~Lease();  // gives it back
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  void beat() const;  // to be called every kBeatSeconds

  static constexpr double kBeatSeconds = 15;
  static constexpr double kDeadSeconds = 120;  // without a heartbeat

  // Removes a lease whose owner is gone: one that was killed after it had finished the cell.
  static void sweep(const std::filesystem::path& folder);

  // True where some process computes the cell now.
  static bool is_alive(const std::filesystem::path& folder);

 private:
  explicit Lease(std::filesystem::path file) : file_(std::move(file)) {}
  std::filesystem::path file_;
};

}  // namespace harness
