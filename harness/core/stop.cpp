#include "harness/core/stop.hpp"

#include <mutex>
#include <utility>

namespace harness {

struct Stop::State {
  std::function<bool()> source;
  std::mutex mutex;
  bool seen = false;
};

std::shared_ptr<Stop::State> Stop::state_of(std::function<bool()> source) {
  if (!source) return nullptr;
  auto state = std::make_shared<State>();
  state->source = std::move(source);
  return state;
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
