#pragma once

#include <chrono>

#include "approaches/lp/linear_program.hpp"

namespace harness::lp {

// Tells when a solve must end: called at every iteration, looks at clock, memory and the caller's Stop only
// now and then.
class Watch {
 public:
  explicit Watch(const Limits& limits);
  bool over();                          // true from then on
  Outcome why() const { return why_; }  // once over
  double seconds() const;               // since the start
  double seconds_left() const { return limits_.seconds - seconds(); }

 private:
  const Limits& limits_;
  std::chrono::steady_clock::time_point start_, polled_;
  size_t resident_ = 0;  // bytes at the start
  bool over_ = false;
  Outcome why_ = Outcome::stopped;
};

// "time limit of 2 s" and the like.
std::string limit_text(Outcome why, const Limits& limits);

}  // namespace harness::lp
