#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

namespace harness {

// Thrown where a process finds that the cell it computes is another's by now. No std::exception, so that no
// approach catches it as an error of its own.
struct LeaseLost {};

// Who computes a cell says so in lease.json of its folder (harness/docs/running.md). Advice, not a lock:
// work may be done twice, but what finds that it has lost its lease writes nothing any more.
class Lease {
 public:
  static constexpr double kBeatSeconds = 15;
  static constexpr double kDeadSeconds = 120;  // without a heartbeat, as watched from here

  // What this process has seen of the leases of others. Of a process on the same machine (and in the same
  // name space) the kernel says whether it lives. The lease of any other is dead once it did not change for
  // `dead_seconds` of our own monotonic clock, so that wrong times of day do no harm. A lease that cannot be
  // read is judged like one of another machine.
  class Watch {
   public:
    explicit Watch(double dead_seconds = kDeadSeconds) : dead_seconds_(dead_seconds) {}
    // True where some process computes the cell now, or may.
    bool is_alive(const std::filesystem::path& folder);
    // Removes a lease whose owner has ended: one that was killed after it had finished the cell.
    void sweep(const std::filesystem::path& folder);

   private:
    friend class Lease;
    struct Seen {
      std::string stamp;  // of content and time of change
      std::chrono::steady_clock::time_point since;
    };
    // The stamp of a lease that is there and whose owner has ended, else "".
    std::string stamp_of_dead(const std::filesystem::path& file);
    double dead_seconds_;
    std::map<std::filesystem::path, Seen> seen_;
  };

  // Takes the lease of a cell's folder (made where it is absent), also one whose owner has ended. Nothing
  // where another process has it, or was quicker. Throws UserError where it cannot be written.
  static std::unique_ptr<Lease> take(const std::filesystem::path& folder, Watch& watch);
  ~Lease();  // gives it back, where it is still ours
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  void beat();  // to be called every kBeatSeconds
  const std::string& token() const { return token_; }

  // Whether the cell's lease is the one with this token. Throws UserError where it cannot be read.
  static bool is_held(const std::filesystem::path& folder, const std::string& token);

  // For people: by the time of day, from one look. Decides nothing.
  static bool seems_alive(const std::filesystem::path& folder);

 private:
  Lease(std::filesystem::path file, std::string token);
  std::filesystem::path file_;
  std::string token_;
  int descriptor_ = -1;  // of our own file, so that a beat never renews another's
};

}  // namespace harness
