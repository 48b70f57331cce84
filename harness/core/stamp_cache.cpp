#include "harness/core/stamp_cache.hpp"

#include <sys/stat.h>

namespace harness {

std::optional<std::array<int64_t, 5>> look_at_file(const std::filesystem::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return std::nullopt;
  return std::array{static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino),
                    static_cast<int64_t>(status.st_size), static_cast<int64_t>(status.st_mtim.tv_sec),
                    static_cast<int64_t>(status.st_mtim.tv_nsec)};
}

}  // namespace harness
