#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace harness {

// Device, inode, size in bytes, seconds and nanoseconds of the last change of a file. Nothing where there is
// no such file; then errno says why.
std::optional<std::array<int64_t, 5>> look_at_file(const std::filesystem::path& file);

// What is known of files that have not changed since, by a name for each file. A file is taken for unchanged
// while its stamp stays the same. `with_device`: whether the device belongs to the stamp; not where the
// cache's file travels with the files, as a shared file system has another number on each machine.
template <typename Value, bool with_device>
class StampCache {
 public:
  using Stamp = std::array<int64_t, with_device ? 5 : 4>;

  static std::optional<Stamp> stamp_of(const std::filesystem::path& file) {
    const auto all = look_at_file(file);
    if (!all) return std::nullopt;
    Stamp stamp;
    std::copy(all->end() - stamp.size(), all->end(), stamp.begin());
    return stamp;
  }
  static int64_t bytes_in(const Stamp& stamp) { return stamp[stamp.size() - 3]; }

  // Null where nothing is known of the file as it is now. Valid until the next change of the cache.
  const Value* find(const std::string& name, const Stamp& stamp) const {
    const auto known = entries_.find(name);
    return known != entries_.end() && known->second.first == stamp ? &known->second.second : nullptr;
  }
  void set(const std::string& name, const Stamp& stamp, Value value) {
    entries_[name] = {stamp, std::move(value)};
  }
  // From an earlier process: what this one has found itself counts more.
  void add(const std::string& name, const Stamp& stamp, Value value) {
    entries_.try_emplace(name, stamp, std::move(value));
  }
  void clear() { entries_.clear(); }
  const std::map<std::string, std::pair<Stamp, Value>>& entries() const { return entries_; }

 private:
  std::map<std::string, std::pair<Stamp, Value>> entries_;
};

}  // namespace harness
