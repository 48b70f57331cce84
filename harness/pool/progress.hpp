#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace harness::pool {

// A cell that ended, as people see it.
struct FinishedCell {
  std::string id, status, reason;  // status "" for a cell without a result, then `reason` says why
  double seconds = 0;
  bool mistrusted = false;
};

// What a run says on standard error: on a terminal one line that is rewritten; elsewhere a line for each
// finished cell, and about the running ones at most one a minute.
class Progress {
 public:
  enum class Form { silent, lines, terminal };
  explicit Progress(Form form) : form_(form) {}
  ~Progress();  // leaves the terminal at the start of a line
  // Lines, or a terminal's line where standard error is one that can do that.
  static Form form_of_standard_error();

  void expect(int64_t cells, double seconds_left);  // to do; seconds 0: unknown
  void say(const std::string& line);                // a line of its own
  void begin(int worker, const std::string& id);
  void part(int worker, const std::string& part);
  void portion(int worker, double done, const std::string& what);
  void end(int worker, const FinishedCell& finished, double expected_seconds);
  void idle(int worker);  // its cell did not end: it will be run again
  void tick();            // to be called often

 private:
  struct Running {
    std::string id, part, what;
    double done = 0;
    std::chrono::steady_clock::time_point since;
  };
  std::string overview() const;
  std::string time_left() const;
  void erase_line();

  Form form_;
  int64_t todo_ = 0, ended_ = 0;
  double expected_ = 0, expected_of_ended_ = 0;
  std::map<int, Running> running_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now(), last_ = start_;
  bool line_open_ = false;
};

}  // namespace harness::pool
