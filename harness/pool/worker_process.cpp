#include "harness/pool/worker_process.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>

#include "harness/core/error.hpp"
#include "harness/core/process_memory.hpp"

extern char** environ;

namespace harness::pool {
namespace {

const char* const kParent = "HARNESS_PARENT";

[[noreturn]] void cannot_start(int error) {
  throw UserError(
      {"this process", "worker", std::strerror(error), "that this program can be started again", ""});
}

struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) cannot_start(errno);
    read = ends[0];
    write = ends[1];
  }
};

std::vector<std::string> changed_environment(std::map<std::string, std::string> changes) {
  std::vector<std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (changes.count(text.substr(0, text.find('='))) == 0) variables.push_back(text);
  }
  for (const auto& [name, value] : changes) variables.push_back(name + "=" + value);
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (std::string& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

}  // namespace

WorkerProcess::WorkerProcess(const std::map<std::string, std::string>& environment) {
  const Pipe requests, replies;
  requests_ = requests.write;
  replies_ = replies.read;
  ::fcntl(replies_, F_SETFL, O_NONBLOCK);

  std::map<std::string, std::string> changes = environment;
  changes[kParent] = std::to_string(::getpid());
  std::vector<std::string> variables = changed_environment(std::move(changes)), words = {"harness", "worker"};

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, requests.read, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, replies.write, kReplies);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setpgroup(&attributes, 0);  // a terminal's signals reach the planner alone
  ::posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const int error = ::posix_spawn(&pid_, "/proc/self/exe", &actions, &attributes, pointers(words).data(),
                                  pointers(variables).data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  ::close(requests.read);
  ::close(replies.write);
  if (error != 0) {
    ::close(requests_);
    ::close(replies_);
    cannot_start(error);
  }
}

WorkerProcess::~WorkerProcess() {
  if (!end_) {
    signal(SIGKILL);
    wait();
  }
  ::close(requests_);
  ::close(replies_);
}

void WorkerProcess::send(const Request& request) {
  const std::string line = to_line(request) + "\n";
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t count = ::write(requests_, line.data() + sent, line.size() - sent);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return;  // EPIPE: it is dead
    sent += static_cast<size_t>(count);
  }
}

std::vector<Reply> WorkerProcess::receive(bool* closed) {
  std::array<char, 65536> bytes;
  *closed = false;
  while (true) {
    const ssize_t count = ::read(replies_, bytes.data(), bytes.size());
    if (count > 0) {
      buffer_.append(bytes.data(), static_cast<size_t>(count));
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    *closed = count == 0;
    break;
  }
  std::vector<Reply> replies;
  size_t begin = 0;
  for (size_t end; (end = buffer_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    try {
      replies.push_back(read_reply(buffer_.substr(begin, end - begin)));
    } catch (const MalformedMessage& error) {
      replies.push_back(RequestFailed{error.what(), false});
    }
  }
  buffer_.erase(0, begin);
  return replies;
}

void WorkerProcess::signal(int number) const {
  if (!end_) ::kill(pid_, number);
}

ProcessEnd WorkerProcess::wait() {
  if (end_) return *end_;
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  end_ = WIFSIGNALED(status) ? ProcessEnd{0, WTERMSIG(status)} : ProcessEnd{WEXITSTATUS(status), 0};
  return *end_;
}

double WorkerProcess::resident_megabytes() const {
  return harness::resident_megabytes(pid_);
}

bool die_with_parent() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const char* parent = std::getenv(kParent);
  return parent == nullptr || std::to_string(::getppid()) == parent;
}

int64_t out_of_memory_kills() {
  int64_t kills = 0;
  for (const char* file : {"/proc/vmstat", "/sys/fs/cgroup/memory.events"}) {
    std::ifstream lines(file);
    std::string name;
    for (int64_t value; lines >> name >> value;) {
      if (name == "oom_kill") kills += value;
    }
  }
  return kills;
}

}  // namespace harness::pool
