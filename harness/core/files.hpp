#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace harness {

// How much of a new file must have reached the disk before a writer goes on: nothing, for what is worth
// nothing after the machine stopped; the content; or the folder's entry too, which each costs milliseconds.
// A folder that is flushed once flushes all entries before.
enum class Flush { nothing, content, entry };

// Writes under a temporary name, flushes to the disk, renames: readers see the old file or the whole new one.
// Throws UserError naming file and the system's reason.
void write_atomically(const std::filesystem::path& file, std::string_view content,
                      Flush flush = Flush::entry);

// The same where nothing has the name yet; of several processes that try at once, on whatever machine,
// exactly one gets true. A file system without hard links shows an empty file at first.
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

// A hidden name beside `file` (patterns skip it) that no other process uses and that says who does.
std::filesystem::path temporary_name(const std::filesystem::path& file);

// Removes what writers that were killed left half written in `folder`: of processes that have gone; where
// nothing here can tell (another machine's), what has not changed for kAbandonedSeconds by the clock of the
// file system itself.
void remove_half_written(const std::filesystem::path& folder);
inline constexpr double kAbandonedSeconds = 600;

// The folder and those above it. Throws UserError naming folder and the system's reason.
void make_folders(const std::filesystem::path& folder);

std::string read_text(const std::filesystem::path& file);     // UserError where unreadable
nlohmann::json read_json(const std::filesystem::path& file);  // UserError with line and column

// The executable file that a shell would start for `name`: looked for in PATH where it has no slash. Nothing
// where there is none.
std::optional<std::filesystem::path> find_program(const std::string& name);

// 128-bit digests as 32 hexadecimal digits (XXH3; identity, not security).
std::string digest_of(std::string_view bytes);
std::string digest_of_file(const std::filesystem::path& file);  // cached in this process by size and time
// Digests of large files from one process to the next. Only a cache: what cannot be read or written is left.
void load_digests(const std::filesystem::path& cache);
void save_digests(const std::filesystem::path& cache);

// Shortest decimal text that reads back to the same double ("0.1", "97.9"); "" for NaN.
std::string format_number(double value);
// One CSV field, quoted where it must be (RFC 4180).
std::string csv_field(std::string_view text);

}  // namespace harness
