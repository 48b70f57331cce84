#include "harness/core/stop_signals.hpp"

#include <csignal>
#include <initializer_list>

namespace harness {
namespace {

volatile std::sig_atomic_t received = 0;
volatile std::sig_atomic_t only_one = 0;

extern "C" void on_stop_signal(int signal) {
  received = received + 1;
  if (only_one != 0) std::signal(signal, SIG_DFL);
}

}  // namespace

void install_stop_signals(bool one_is_enough) {
  only_one = one_is_enough ? 1 : 0;
  for (const int number : {SIGINT, SIGTERM, SIGUSR1, SIGUSR2}) {
    struct sigaction action {};
    action.sa_handler = on_stop_signal;
    action.sa_flags = SA_RESTART;  // poll() returns all the same
    ::sigaction(number, &action, nullptr);
  }
}

int stop_signals() {
  return received;
}

bool stop_requested() {
  return received != 0;
}

void throw_if_stopped() {
  if (stop_requested()) throw Interrupted{};
}

}  // namespace harness
