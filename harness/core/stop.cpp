#include "harness/core/stop.hpp"

#include <mutex>
#include <utility>

namespace harness {

struct Stop::State {
  std::function<bool()> source;
  std::mutex mutex;
  bool seen = false;
};

Stop::Stop(std::function<bool()> source, int) : state_(source ? std::make_shared<State>() : nullptr) {
  if (state_) state_->source = std::move(source);
}

bool Stop::requested() const {
  if (!state_) return false;
  const std::scoped_lock lock(state_->mutex);
  const bool now = state_->source();
  state_->seen = state_->seen || now;
  return state_->seen;
}

bool Stop::seen() const {
  if (!state_) return false;
  const std::scoped_lock lock(state_->mutex);
  return state_->seen;
}

void Stop::check() const {
  if (requested()) throw FixStopped{};
}

}  // namespace harness
