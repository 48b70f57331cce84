#pragma once

#include <cstdint>
#include <functional>

namespace harness {

// Leaves a loop that was told to stop before it had its result. Out of fix(): FAILURE timeout or
// out_of_memory.
struct FixStopped {};

// Asked in long loops wherever they may be left: throws FixStopped where they should. Empty: never.
using Poll = std::function<void()>;
inline void ask(const Poll& poll) {
  if (poll) poll();
}

// How many inputs go through a network: so many at once, with a question before each batch.
struct Passes {
  Passes(int64_t inputs_at_once, Poll ask_before = {})  // implicit: a number alone will do
      : batch(inputs_at_once), poll(std::move(ask_before)) {}
  int64_t batch;
  Poll poll;
};

}  // namespace harness
