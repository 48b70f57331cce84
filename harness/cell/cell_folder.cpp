#include "harness/cell/cell_folder.hpp"

#include "harness/core/files.hpp"
#include "harness/store/lease.hpp"

namespace harness::cell {
namespace {

namespace fs = std::filesystem;

const std::string kScratch = "external";
constexpr size_t kTokenLetters = 12;  // of the lease's token, in the name of a scratch folder

}  // namespace

CellFolder::CellFolder(fs::path path, std::string lease) : path_(std::move(path)), lease_(std::move(lease)) {}

void CellFolder::demand_lease() const {
  if (!lease_.empty() && !Lease::is_held(path_, lease_)) throw LeaseLost{};
}

void CellFolder::clear_from(Stage stage) const {
  demand_lease();
  cell::clear_from(path_, stage);
}

void CellFolder::keep(Stage stage, const StageFile& file) const {
  demand_lease();
  write_stage(path_, stage, file);
}

void CellFolder::write(const std::string& name, std::string_view content) const {
  demand_lease();
  write_atomically(path_ / name, content, Flush::content);
}

void CellFolder::remove_checkpoint() const {
  fs::remove(checkpoint());
  for (const fs::path& left : scratches()) fs::remove_all(left);
}

fs::path CellFolder::scratch() const {
  return path_ / (lease_.empty() ? kScratch : kScratch + "-" + lease_.substr(0, kTokenLetters));
}

void CellFolder::adopt_scratch() const {
  const fs::path own = scratch();
  for (const fs::path& left : scratches()) {
    if (left == own) continue;
    fs::remove_all(own);
    fs::rename(left, own);
  }
}

std::vector<fs::path> CellFolder::scratches() const {
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(path_)) {
    if (entry.path().filename().string().starts_with(kScratch)) found.push_back(entry.path());
  }
  return found;
}

}  // namespace harness::cell
