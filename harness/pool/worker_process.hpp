#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "harness/core/process_end.hpp"
#include "harness/pool/protocol.hpp"

namespace harness::pool {

// The same binary as a worker: started by posix_spawn, in a process group of its own, dying with this
// process. Messages (protocol.hpp) go through two pipes, one a line: requests to its standard input, replies
// from its descriptor kReplies.
class WorkerProcess {
 public:
  static constexpr int kReplies = 3;

  // `environment`: variables that differ from this process's. Throws UserError where nothing can be started.
  explicit WorkerProcess(const std::map<std::string, std::string>& environment);
  ~WorkerProcess();  // kills what still runs, and waits for its end
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  pid_t pid() const { return pid_; }
  int replies() const { return replies_; }  // to poll
  void send(const Request& request);        // to a dead worker: nothing happens, its end shows on replies()
  // Replies that have come; `closed` once the worker has closed its end. Never waits. A line that is no reply
  // becomes RequestFailed: such a worker is of no use any more.
  std::vector<Reply> receive(bool* closed);
  void signal(int number) const;
  ProcessEnd wait();                  // until it has ended
  double resident_megabytes() const;  // 0 once it has ended

 private:
  pid_t pid_ = -1;
  int requests_ = -1, replies_ = -1;
  std::string buffer_;
  std::optional<ProcessEnd> end_;
};

// In the worker: dies with the process that started it. False where that one has ended already.
bool die_with_parent();

// How many processes the kernel has killed for want of memory since it started (or this container did).
int64_t out_of_memory_kills();

}  // namespace harness::pool
