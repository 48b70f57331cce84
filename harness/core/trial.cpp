#include "harness/core/trial.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

namespace harness {
namespace {

constexpr std::chrono::seconds kMaxWaiting(300);

// The copy prints nothing, leaves no core file, and ends when its parent ends.
[[noreturn]] void run_copy(const std::function<void()>& attempt, int seconds) {
  for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGXCPU}) ::signal(signal, SIG_DFL);
  // Stop signals reach the whole process group. The parent handles them.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) ::signal(signal, SIG_IGN);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit none = {0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  // CPU time of the copy counts from 0.
  const rlimit time = {static_cast<rlim_t>(seconds), static_cast<rlim_t>(seconds) + 1};
  ::setrlimit(RLIMIT_CPU, &time);
  const int nowhere = ::open("/dev/null", O_WRONLY);
  if (nowhere >= 0) {
    ::dup2(nowhere, STDOUT_FILENO);
    ::dup2(nowhere, STDERR_FILENO);
  }
  try {
    attempt();
  } catch (...) {  // the parent's own attempt reports it
  }
  ::_exit(0);
}

}  // namespace

std::string ended_by(const std::function<void()>& attempt, int seconds) {
  const pid_t copy = ::fork();
  if (copy == 0) run_copy(attempt, seconds);
  if (copy < 0) return "";
  int status = 0;
  const auto start = std::chrono::steady_clock::now();
  auto pause = std::chrono::microseconds(100);
  while (true) {
    const pid_t ended = ::waitpid(copy, &status, WNOHANG);
    if (ended == copy) break;
    if (ended < 0 && errno != EINTR) return "";
    // It waits for a file system, or for a lock of another thread.
    if (std::chrono::steady_clock::now() - start > kMaxWaiting) {
      ::kill(copy, SIGKILL);
      ::waitpid(copy, &status, 0);
      return "";
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, std::chrono::microseconds(10000));
  }
  if (!WIFSIGNALED(status))
    return WEXITSTATUS(status) == 0 ? "" : "exit code " + std::to_string(WEXITSTATUS(status));
  const int signal = WTERMSIG(status);
  if (signal == SIGKILL) return "";  // by somebody else
  if (signal == SIGXCPU) return std::to_string(seconds) + " s of computing";
  const char* name = ::sigabbrev_np(signal);
  return name == nullptr ? "signal " + std::to_string(signal) : "SIG" + std::string(name);
}

}  // namespace harness
