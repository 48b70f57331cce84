#include "approaches/lp/watch.hpp"

#include <sstream>

#include "harness/core/clock.hpp"
#include "harness/core/process_memory.hpp"

namespace harness::lp {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(50);

size_t resident_bytes() {
  return static_cast<size_t>(1e6 * resident_megabytes());
}

}  // namespace

Watch::Watch(const Limits& limits)
    : limits_(limits), start_(std::chrono::steady_clock::now()), polled_(start_ - kPollInterval) {
  if (limits_.bytes > 0) resident_ = resident_bytes();
}

double Watch::seconds() const {
  return seconds_since(start_);
}

bool Watch::over() {
  if (over_) return true;
  const auto now = std::chrono::steady_clock::now();
  if (std::chrono::duration<double>(now - start_).count() >= limits_.seconds) {
    why_ = Outcome::time_limit;
    return over_ = true;
  }
  if (now - polled_ < kPollInterval) return false;
  polled_ = now;
  if (limits_.stop.requested()) {
    why_ = Outcome::stopped;
    return over_ = true;
  }
  if (limits_.bytes > 0 && resident_bytes() > resident_ + limits_.bytes) {
    why_ = Outcome::memory_limit;
    return over_ = true;
  }
  return false;
}

std::string limit_text(Outcome why, const Limits& limits) {
  std::ostringstream text;
  if (why == Outcome::time_limit)
    text << "not finished within " << limits.seconds << " s";
  else if (why == Outcome::memory_limit)
    text << "more than " << limits.bytes / (1 << 20) << " MiB needed";
  else
    text << "stopped";
  return text.str();
}

}  // namespace harness::lp
