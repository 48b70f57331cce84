#pragma once

#include <filesystem>
#include <string>

namespace harness::cell {

// log.txt of a cell, with one part for each time it was computed. While the object lives, this process's
// standard error goes there too: LibTorch's warnings, the message of an abort, an external program's output.
// Host name and Slurm job are here and nowhere else; they show which node is broken.
class CellLog {
 public:
  explicit CellLog(const std::filesystem::path& folder);  // throws UserError where it cannot be written
  ~CellLog();
  CellLog(const CellLog&) = delete;
  CellLog& operator=(const CellLog&) = delete;
  void line(const std::string& text) const;  // with the time before it

 private:
  int before_ = -1;  // standard error as it was
};

}  // namespace harness::cell
