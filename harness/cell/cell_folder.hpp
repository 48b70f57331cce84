#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "harness/cell/stages.hpp"

namespace harness::cell {

// The folder of one cell while it is computed. Two processes must not mix their files: functions that change
// the folder first throw LeaseLost where the cell's lease belongs to another process by now.
class CellFolder {
 public:
  static constexpr const char* kModel = "fixed.pt";

  // `lease`: token of the cell's lease; empty where no other process can be at the cell.
  CellFolder(std::filesystem::path path, std::string lease);
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path model() const { return path_ / kModel; }

  void demand_lease() const;
  void clear_from(Stage stage) const;
  void keep(Stage stage, const StageFile& file) const;
  void write(const std::string& name, std::string_view content) const;

  // The checkpoint of the fix, and with it the scratch folders of external programs.
  std::filesystem::path checkpoint() const { return path_ / "checkpoint.bin"; }
  void remove_checkpoint() const;
  // One for each owner of the cell, so that no two programs share one.
  std::filesystem::path scratch() const;
  // Gives this owner the scratch folder that an interrupted program left.
  void adopt_scratch() const;

 private:
  std::vector<std::filesystem::path> scratches() const;

  std::filesystem::path path_;
  std::string lease_;
};

}  // namespace harness::cell
