#pragma once

#include <filesystem>
#include <string>

namespace harness {

// log.txt of a cell, one part for each time it was computed. While the object lives, this process's standard
// error goes there too: LibTorch's warnings, an abort's last words, an external program's output. Host name
// and Slurm job stand here and nowhere else, so that a broken node can be found.
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

}  // namespace harness
