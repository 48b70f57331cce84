#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

namespace harness {

// Thrown to leave a loop that has to stop without a result. If it leaves fix(), the cell is a FAILURE,
// timeout or out_of_memory.
struct FixStopped {};

// Tells long work that it has to end. Budgets, signals and the iterations of linear programs all use it.
// Copies share their state. A default one never stops.
class Stop {
 public:
  Stop() = default;
  // `source` returns true when the work has to end. It may be called from several threads, one at a time.
  template <typename Source>
  requires(std::is_invocable_r_v<bool, Source&> && !std::is_same_v<std::decay_t<Source>, Stop>)
      Stop(Source source)
      : state_(state_of(std::move(source))) {}

  // Calls the source. Once it has returned true, always true.
  bool requested() const;
  // Whether requested() has ever been true. Does not call the source.
  bool seen() const;
  // Throws FixStopped when requested().
  void check() const;

 private:
  struct State;
  static std::shared_ptr<State> state_of(std::function<bool()> source);  // null for an empty one
  std::shared_ptr<State> state_;
};

// The number of inputs that go through a network at once. `stop` is checked before each batch.
struct Batching {
  Batching(int64_t inputs, Stop stop_before = {})  // implicit, so that a number can be passed
      : batch(inputs), stop(std::move(stop_before)) {}
  int64_t batch;
  Stop stop;
};

}  // namespace harness
