#include "harness/run/stop.hpp"

#include <csignal>

namespace harness {
namespace {

volatile std::sig_atomic_t requested = 0;

extern "C" void on_stop_signal(int signal) {
  requested = 1;
  std::signal(signal, SIG_DFL);
}

}  // namespace

void install_stop_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) std::signal(signal, on_stop_signal);
}

bool stop_requested() {
  return requested != 0;
}

void throw_if_stopped() {
  if (stop_requested()) throw Interrupted{};
}

}  // namespace harness
