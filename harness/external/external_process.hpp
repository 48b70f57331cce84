#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace harness::external {

// A program of somebody else's, in a session and process group of its own, so that it can be ended with all
// that it started. The program itself dies with the thread that made this object (PR_SET_PDEATHSIG). It gets
// an empty standard input, default signal handlers and no open file of ours; what it prints goes to the
// standard error of this process.
class ExternalProcess {
 public:
  // Starts `command`, which is not empty, in `folder`. Throws UserError where it cannot be started.
  ExternalProcess(const std::vector<std::string>& command, const std::filesystem::path& folder);
  ~ExternalProcess();  // kills it
  ExternalProcess(const ExternalProcess&) = delete;
  ExternalProcess& operator=(const ExternalProcess&) = delete;

  // Passes on what is printed, for at most `patience`. True once the program has ended: whatever it left
  // running has then been killed.
  bool wait(std::chrono::milliseconds patience);
  void terminate();  // SIGTERM to its process group
  void kill();       // SIGKILL to everything in its session
  // Whether it and everything it started hold more resident memory, in 10^6 bytes. Shared pages count once.
  bool exceeds(double megabytes) const;

  // Once it has ended:
  bool succeeded() const { return status_ == 0; }
  // "exit code 3: the last line it printed", "killed by signal 11 (SIGSEGV)".
  std::string ending() const;

 private:
  void pass_on(std::chrono::milliseconds patience);
  std::string last_line() const;

  pid_t process_ = -1;
  int output_ = -1;   // what it prints; -1 once nobody can print any more
  int end_ = -1;      // readable once it has ended; -1 where the kernel knows no such thing
  std::string tail_;  // the end of that
  int status_ = -1;   // as waitpid() gives it
  bool ended_ = false;
};

}  // namespace harness::external
