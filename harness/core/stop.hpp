#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

namespace harness {

// Leaves a loop that has to stop before it has its result. Out of fix(): FAILURE timeout or out_of_memory.
struct FixStopped {};

// Whether long work has to end: the one way to say so, from the budget of a fix down to the iterations of a
// linear program. Copies share their state; a default one never stops.
class Stop {
 public:
  Stop() = default;
  // From any function that says true when the work has to end; it may be called from several threads, one
  // call at a time.
  template <typename Source>
  requires(std::is_invocable_r_v<bool, Source&> && !std::is_same_v<std::decay_t<Source>, Stop>)
      Stop(Source source)
      : Stop(std::function<bool()>(std::move(source)), 0) {}

  // Asks the source. True from the first time on that it says so.
  bool requested() const;
  // Whether requested() has been true, without asking again: how the work ended.
  bool seen() const;
  // Throws FixStopped when requested().
  void check() const;

 private:
  struct State;
  Stop(std::function<bool()> source, int);
  std::shared_ptr<State> state_;
};

// How many inputs go through a network at once; `stop` is checked before each batch.
struct Batching {
  Batching(int64_t inputs, Stop stop_before = {})  // implicit: a number alone will do
      : batch(inputs), stop(std::move(stop_before)) {}
  int64_t batch;
  Stop stop;
};

}  // namespace harness
