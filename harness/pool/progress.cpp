#include "harness/pool/progress.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "harness/core/clock.hpp"

namespace harness::pool {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kLineInterval{60};
constexpr std::chrono::milliseconds kTerminalInterval{200};

std::string tenths(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", seconds);
  return text;
}

// "45 s", "12 min", "3 h 20 min"
std::string roughly(double seconds) {
  const auto minutes = static_cast<int64_t>(seconds / 60 + 0.5);
  if (seconds < 90) return std::to_string(static_cast<int64_t>(seconds + 0.5)) + " s";
  if (minutes < 90) return std::to_string(minutes) + " min";
  return std::to_string(minutes / 60) + " h " + std::to_string(minutes % 60) + " min";
}

size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

Progress::Form Progress::form_of_standard_error() {
  const char* terminal = std::getenv("TERM");
  const bool able = terminal != nullptr && std::string(terminal) != "dumb";
  return able && ::isatty(STDERR_FILENO) == 1 ? Form::terminal : Form::lines;
}

Progress::~Progress() {
  erase_line();
}

void Progress::expect(int64_t cells, double seconds_left) {
  todo_ = cells;
  expected_ = seconds_left;
  start_ = last_ = Clock::now();
}

void Progress::erase_line() {
  if (!line_open_) return;
  std::cerr << "\r\033[K" << std::flush;
  line_open_ = false;
}

void Progress::say(const std::string& line) {
  if (form_ == Form::silent) return;
  erase_line();
  std::cerr << line << std::endl;
}

void Progress::begin(int worker, const std::string& id) {
  running_[worker] = {id, "", "", 0, Clock::now()};
}

void Progress::part(int worker, const std::string& part) {
  Running& running = running_[worker];
  running.part = part;
  running.what.clear();
  running.done = 0;
}

void Progress::portion(int worker, double done, const std::string& what) {
  running_[worker].done = done;
  running_[worker].what = what;
}

void Progress::idle(int worker) {
  running_.erase(worker);
}

void Progress::end(int worker, const FinishedCell& finished, double expected_seconds) {
  running_.erase(worker);
  ++ended_;
  expected_of_ended_ += expected_seconds;
  std::string line = "[" + std::to_string(ended_) + "/" + std::to_string(todo_) + "] " + finished.id + " ";
  if (finished.status.empty()) {
    line += "no result: " + finished.reason;
  } else {
    line += finished.status + " in " + tenths(finished.seconds);
    if (!finished.reason.empty()) line += " (" + finished.reason + ")";
    if (finished.mistrusted) line += " MISTRUSTED: a check failed, see its record";
  }
  say(line);
}

// From what the records led to expect, corrected by how the finished cells compared; else from their mean.
std::string Progress::time_left() const {
  if (ended_ == 0) return expected_ > 0 ? ", about " + roughly(expected_) + " left" : "";
  const double spent = seconds_since(start_);
  const double left = expected_ > expected_of_ended_ && expected_of_ended_ > 0
                          ? spent * (expected_ - expected_of_ended_) / expected_of_ended_
                          : spent * static_cast<double>(todo_ - ended_) / static_cast<double>(ended_);
  char rate[48];
  std::snprintf(rate, sizeof rate, ", %.3g cells/min", 60 * static_cast<double>(ended_) / spent);
  return rate + std::string(", about ") + roughly(left) + " left";
}

std::string Progress::overview() const {
  std::string text = std::to_string(ended_) + "/" + std::to_string(todo_) + " cells" + time_left();
  for (const auto& [worker, running] : running_) {
    text += "; " + running.id;
    if (!running.part.empty()) text += " " + running.part;
    if (!running.what.empty()) {
      text += " " + std::to_string(std::lround(100 * running.done)) + " % " + running.what;
    }
    text += " " + roughly(seconds_since(running.since));
  }
  return text;
}

void Progress::tick() {
  if (form_ == Form::silent || running_.empty()) return;
  const Clock::time_point now = Clock::now();
  if (form_ == Form::lines) {
    if (now - last_ < kLineInterval) return;
    last_ = now;
    std::cerr << overview() << std::endl;
    return;
  }
  if (now - last_ < kTerminalInterval) return;
  last_ = now;
  std::cerr << "\r\033[K" << overview().substr(0, terminal_width() - 1) << std::flush;
  line_open_ = true;
}

}  // namespace harness::pool
