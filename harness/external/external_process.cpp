#include "harness/external/external_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/core/process_end.hpp"
#include "harness/core/process_memory.hpp"
#include "harness/model/cause.hpp"

namespace harness {
namespace {

namespace fs = std::filesystem;

constexpr size_t kTail = 4096;                  // bytes of output that are kept for the reason
constexpr size_t kMaxAtOnce = size_t{1} << 20;  // bytes passed on before anything else is looked at
constexpr size_t kLongestLine = 300;            // bytes of a line in a reason
constexpr unsigned kMaxDescriptors = 1U << 16;  // to close where the kernel has no close_range

struct Pipe {
  std::array<int, 2> ends{-1, -1};
  Pipe() {
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      throw UserError({"", "", std::strerror(errno), "a pipe for an external program", ""});
    }
  }
  ~Pipe() {
    for (size_t end : {0, 1}) close(end);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void close(size_t end) {
    if (ends[end] >= 0) ::close(std::exchange(ends[end], -1));
  }
  int take(size_t end) { return std::exchange(ends[end], -1); }
};

// All that the child needs, made before the fork.
struct Start {
  const char* program;
  char* const* arguments;
  const char* folder;
  int output, error;
  pid_t parent;
};

void close_from(unsigned first) {
#ifdef SYS_close_range
  if (::syscall(SYS_close_range, first, ~0U, 0U) == 0) return;
#endif
  for (unsigned number = first; number < kMaxDescriptors; ++number) ::close(static_cast<int>(number));
}

// Between fork and exec of a process with threads: functions that are safe in signal handlers, nothing else.
[[noreturn]] void become(const Start& start) {
  constexpr int kErrorPipe = 3;
  struct sigaction plain {};
  plain.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &plain, nullptr);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != start.parent) ::_exit(1);  // it died before it could take this one along
  ::setsid();
  const int input = ::open("/dev/null", O_RDONLY);
  const bool ready = input >= 0 && ::dup2(input, STDIN_FILENO) >= 0 &&
                     ::dup2(start.output, STDOUT_FILENO) >= 0 && ::dup2(start.output, STDERR_FILENO) >= 0 &&
                     (start.error == kErrorPipe || ::dup3(start.error, kErrorPipe, O_CLOEXEC) >= 0);
  if (ready) {
    close_from(kErrorPipe + 1);  // the data file with its test split among them
    if (::chdir(start.folder) == 0) ::execve(start.program, start.arguments, environ);
  }
  const int reason = errno;
  [[maybe_unused]] const auto count = ::write(ready ? kErrorPipe : start.error, &reason, sizeof reason);
  ::_exit(127);
}

// What the kernel says of one process; empty for one that has gone.
std::string proc_text(pid_t process, const char* file) {
  std::ifstream stream("/proc/" + std::to_string(process) + "/" + file);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

std::vector<pid_t> session_of(pid_t leader) {
  std::vector<pid_t> members;
  std::error_code error;
  for (fs::directory_iterator entry("/proc", error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto process = static_cast<pid_t>(std::stol(name));
    const std::string stat = proc_text(process, "stat");  // "PID (NAME) STATE PARENT GROUP SESSION ..."
    std::istringstream fields(stat.substr(std::min(stat.size(), stat.rfind(')') + 1)));
    std::string state;
    pid_t parent = 0, group = 0, session = 0;
    if (fields >> state >> parent >> group >> session && session == leader) members.push_back(process);
  }
  return members;
}

// Its share of the pages it has with others; all its pages where the kernel does not say.
double proportional(pid_t process) {
  std::istringstream lines(proc_text(process, "smaps_rollup"));
  for (std::string word; lines >> word;) {
    if (double kilobytes = 0; word == "Pss:" && lines >> kilobytes) return kilobytes * 1024 / 1e6;
  }
  return resident_megabytes(process);
}

}  // namespace

ExternalProcess::ExternalProcess(const std::vector<std::string>& command, const fs::path& folder) {
  constexpr const char* kExpected = "a program that can be started";
  const auto program = find_program(command.front());
  if (!program) throw UserError({command.front(), "", "no such program", kExpected, ""});
  const std::string file = fs::absolute(*program).string(), place = folder.string();
  std::vector<std::string> words = command;
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  Pipe output, error;
  const Start start = {file.c_str(),   arguments.data(), place.c_str(),
                       output.ends[1], error.ends[1],    ::getpid()};
  process_ = ::fork();
  if (process_ == 0) become(start);
  if (process_ < 0) throw UserError({file, "", std::strerror(errno), kExpected, ""});
  output.close(1);
  error.close(1);
  int reason = 0;
  ssize_t count = 0;
  while ((count = ::read(error.ends[0], &reason, sizeof reason)) < 0 && errno == EINTR) {
  }
  if (count > 0) {  // nothing comes where exec succeeds, as it closes the pipe
    ::waitpid(process_, nullptr, 0);
    throw UserError({file, "", std::strerror(reason), kExpected, ""});
  }
  output_ = output.take(0);
  ::fcntl(output_, F_SETFL, O_NONBLOCK);
#ifdef SYS_pidfd_open
  end_ = static_cast<int>(::syscall(SYS_pidfd_open, process_, 0));
#endif
}

ExternalProcess::~ExternalProcess() {
  if (!ended_) {
    kill();
    ::waitpid(process_, nullptr, 0);
  }
  for (const int descriptor : {output_, end_}) {
    if (descriptor >= 0) ::close(descriptor);
  }
}

void ExternalProcess::pass_on(std::chrono::milliseconds patience) {
  std::array<pollfd, 2> waiting = {{{output_, POLLIN, 0}, {end_, POLLIN, 0}}};  // -1: not looked at
  if (::poll(waiting.data(), waiting.size(), static_cast<int>(patience.count())) <= 0) return;
  if (waiting[0].revents == 0) return;
  std::array<char, 1 << 16> buffer;
  for (size_t passed = 0; passed < kMaxAtOnce;) {
    const ssize_t count = ::read(output_, buffer.data(), buffer.size());
    if (count < 0) return;  // nothing more for now
    if (count == 0) {
      ::close(std::exchange(output_, -1));
      return;
    }
    passed += static_cast<size_t>(count);
    tail_.append(buffer.data(), static_cast<size_t>(count));
    if (tail_.size() > kTail) tail_.erase(0, tail_.size() - kTail);
    for (ssize_t written = 0, step; written < count; written += step) {
      step = ::write(STDERR_FILENO, buffer.data() + written, static_cast<size_t>(count - written));
      if (step < 0 && errno != EINTR) break;  // a log that is full is no reason to end a fix
      step = std::max<ssize_t>(step, 0);
    }
  }
}

bool ExternalProcess::wait(std::chrono::milliseconds patience) {
  if (ended_) return true;
  pass_on(patience);
  // Left as a zombie at first, so that its number can mean no other process while the rest is killed.
  siginfo_t info{};
  if (::waitid(P_PID, static_cast<id_t>(process_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid != process_) {
    return false;
  }
  pass_on(std::chrono::milliseconds(0));
  kill();
  ::waitpid(process_, &status_, 0);
  return ended_ = true;
}

void ExternalProcess::terminate() {
  if (!ended_) ::kill(-process_, SIGTERM);
}

void ExternalProcess::kill() {
  if (ended_) return;
  ::kill(-process_, SIGKILL);
  for (const pid_t member : session_of(process_)) ::kill(member, SIGKILL);  // those in groups of their own
}

bool ExternalProcess::exceeds(double megabytes) const {
  const std::vector<pid_t> members = session_of(process_);
  double sum = 0, share = 0;
  for (const pid_t member : members) sum += resident_megabytes(member);
  if (sum <= megabytes) return false;
  for (const pid_t member : members) share += proportional(member);  // costs more: every page is looked at
  return share > megabytes;
}

std::string ExternalProcess::last_line() const {
  std::string line;
  std::istringstream lines(tail_);
  for (std::string next; std::getline(lines, next);) {
    for (char& letter : next) {
      if (static_cast<unsigned char>(letter) < 0x20) letter = ' ';
    }
    if (next.find_first_not_of(' ') != std::string::npos) line = next;
  }
  if (line.size() > kLongestLine) line = line.substr(0, kLongestLine) + "...";
  // records hold UTF-8; whatever else the program printed is replaced
  using Json = nlohmann::json;
  line = Json::parse(Json(line).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
  return line.empty() ? "" : one_line(line);
}

std::string ExternalProcess::ending() const {
  if (WIFSIGNALED(status_)) return "killed by " + to_text(ProcessEnd{.signal = WTERMSIG(status_)});
  const std::string line = last_line();
  return to_text(ProcessEnd{.code = WEXITSTATUS(status_)}) + (line.empty() ? "" : ": " + line);
}

}  // namespace harness
