#pragma once

#include <chrono>

#include "approaches/lp/linear_program.hpp"

namespace harness::lp {

// Says when a solve has to end. over() is called at every iteration; it looks at the clock each time, but at
// memory and at the caller's stop only every 50 ms.
class Watch {
 public:
  explicit Watch(const Limits& limits);
  bool over();                          // stays true
  Outcome why() const { return why_; }  // where over() is true
  double seconds() const;               // since the start
  double seconds_left() const { return limits_.seconds - seconds(); }

 private:
  const Limits& limits_;
  std::chrono::steady_clock::time_point start_, polled_;
  size_t resident_ = 0;  // bytes at the start
  bool over_ = false;
  Outcome why_ = Outcome::stopped;
};

// Such as "not finished within 2 s".
std::string limit_text(Outcome why, const Limits& limits);

}  // namespace harness::lp
