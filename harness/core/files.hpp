#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace harness {

// What of a new file must be on the disk before its writer goes on: nothing (the file is of no use once the
// machine has stopped), its content, or also its entry in the folder. Each flush costs milliseconds. Flushing
// one entry of a folder also flushes the entries made before it.
enum class Flush { nothing, content, entry };

// Writes under a temporary name, flushes, renames: readers see the old file or the whole new one.
// Throws UserError naming file and the system's reason.
void write_atomically(const std::filesystem::path& file, std::string_view content,
                      Flush flush = Flush::entry);

// Writes a file that must not exist yet. If several processes try at once, on any machines, exactly one gets
// true. On a file system without hard links, readers may see an empty file for a moment.
bool write_once(const std::filesystem::path& file, std::string_view content);

// For writers that want a file name themselves (TorchScript, HDF5): a temporary name beside `file`; commit()
// flushes and renames; the destructor removes what was not committed.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path file);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  const std::filesystem::path& temporary() const { return temporary_; }
  void commit(Flush flush = Flush::entry);

 private:
  std::filesystem::path file_, temporary_;
  bool committed_ = false;
};

// A hidden name beside `file` that no other process uses. It names the process that made it.
std::filesystem::path temporary_name(const std::filesystem::path& file);

// Removes temporary files in `folder` whose writers were killed. Those of processes on other machines are
// removed when they have not changed for kAbandonedSeconds by the file system's clock.
void remove_half_written(const std::filesystem::path& folder);
inline constexpr double kAbandonedSeconds = 600;

// Makes the folder and those above it. Throws UserError naming the folder and the system's reason.
void make_folders(const std::filesystem::path& folder);

std::string read_text(const std::filesystem::path& file);     // UserError where unreadable
nlohmann::json read_json(const std::filesystem::path& file);  // UserError with line and column

// The executable file that a shell would start for `name`, searched in PATH if `name` has no slash.
std::optional<std::filesystem::path> find_program(const std::string& name);

// 128-bit digests as 32 hexadecimal digits (XXH3; identity, not security).
std::string digest_of(std::string_view bytes);
std::string digest_of_file(const std::filesystem::path& file);  // cached in this process by size and time
// Keep digests of large files for later processes. A cache only, so errors of reading and writing are
// ignored.
void load_digests(const std::filesystem::path& cache);
void save_digests(const std::filesystem::path& cache);

// Shortest decimal text that reads back to the same double ("0.1", "97.9"); "" for NaN.
std::string format_number(double value);
// One CSV field, quoted where it must be (RFC 4180).
std::string csv_field(std::string_view text);

}  // namespace harness
