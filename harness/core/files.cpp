#include "harness/core/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sstream>
#include <utility>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "harness/core/error.hpp"
#include "harness/core/json_text.hpp"
#include "harness/core/parse_number.hpp"
#include "harness/core/process_name.hpp"
#include "harness/core/stamp_cache.hpp"

namespace harness {

namespace fs = std::filesystem;

namespace {

constexpr const char* kWritable = "a place that can be written to";

[[noreturn]] void system_error(const fs::path& file, const char* expected) {
  throw UserError({file.string(), "", std::strerror(errno), expected, ""});
}

class Descriptor {
 public:
  Descriptor(const fs::path& file, int flags) : number_(::open(file.c_str(), flags | O_CLOEXEC, 0666)) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  explicit operator bool() const { return number_ >= 0; }
  int number() const { return number_; }
  bool close() { return ::close(std::exchange(number_, -1)) == 0; }

 private:
  int number_;
};

fs::path folder_of(const fs::path& file) {
  return file.has_parent_path() ? file.parent_path() : fs::path(".");
}

Life life_of_writer(const std::string& temporary) {
  const std::string name = temporary.substr(0, temporary.rfind('.'));
  std::istringstream parts(name.substr(name.rfind('.') + 1));
  ProcessName writer;
  std::string number;
  if (!std::getline(parts, writer.place, '-') || !std::getline(parts, number, '-') ||
      !std::getline(parts, writer.started, '-')) {
    return Life::unknown;
  }
  const auto parsed = parse_number<decltype(writer.number)>(number);
  if (!parsed) return Life::unknown;
  writer.number = *parsed;
  return life_of(writer);
}

constexpr int kMaxNames = 16;  // tried one after another, each with random bits of its own

// Returns a temporary name at which `make(name)` has made a file or folder. `make` returns false, with errno,
// where it could not.
template <typename Make>
fs::path make_temporary(const fs::path& file, Make make) {
  for (int k = 1;; ++k) {
    const fs::path name = temporary_name(file);
    if (make(name)) return name;
    if (errno != EEXIST || k == kMaxNames) system_error(file, kWritable);
  }
}

// A rename is on the disk when its folder is. Some file systems cannot flush folders and answer EINVAL.
void flush_folder(const fs::path& folder) {
  Descriptor descriptor(folder, O_RDONLY | O_DIRECTORY);
  if (descriptor && ::fsync(descriptor.number()) != 0 && errno != EINVAL) {
    system_error(folder, "a folder that can be flushed to the disk");
  }
}

// Calls `take(bytes, count)` with the file's content piece by piece.
template <typename Take>
void read_pieces(const fs::path& file, Take take) {
  constexpr const char* kExpected = "a readable file";
  Descriptor descriptor(file, O_RDONLY);
  if (!descriptor) system_error(file, kExpected);
  std::vector<char> buffer(size_t{1} << 20);
  while (true) {
    const ssize_t count = ::read(descriptor.number(), buffer.data(), buffer.size());
    if (count == 0) return;
    if (count > 0) {
      take(buffer.data(), static_cast<size_t>(count));
    } else if (errno != EINTR) {
      system_error(file, kExpected);
    }
  }
}

// Digests by (the digest of) a file's absolute name.
struct DigestCache : StampCache<std::string, true> {
  std::mutex guard;
  bool changed = false;  // a large file was added
};

DigestCache& digest_cache() {
  static DigestCache cache;
  return cache;
}

constexpr int64_t kLargeFile = int64_t{1} << 22;  // bytes; reading a smaller one costs less than the cache

std::string hexadecimal(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : canonical.digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace

fs::path temporary_name(const fs::path& file) {
  const ProcessName writer = this_process();
  return folder_of(file) /
         ("." + file.filename().string() + "." + writer.place + "-" + std::to_string(writer.number) + "-" +
          writer.started + "-" + random_name(4) + ".tmp");
}

namespace {

// Writes `content` to a new file beside `file`, under a temporary name. Leaves no file behind on failure.
fs::path write_temporary(const fs::path& file, std::string_view content, Flush flush) {
  std::optional<Descriptor> descriptor;
  fs::path temporary = make_temporary(file, [&](const fs::path& name) {
    descriptor.emplace(name, O_WRONLY | O_CREAT | O_EXCL);
    return static_cast<bool>(*descriptor);
  });
  const auto fail = [&] {
    const int error = errno;
    ::unlink(temporary.c_str());
    errno = error;
    system_error(file, kWritable);
  };
  while (!content.empty()) {
    const ssize_t count = ::write(descriptor->number(), content.data(), content.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail();
    content.remove_prefix(static_cast<size_t>(count));
  }
  if (flush != Flush::nothing && ::fsync(descriptor->number()) != 0) fail();
  if (!descriptor->close()) fail();
  return temporary;
}

}  // namespace

void write_atomically(const fs::path& file, std::string_view content, Flush flush) {
  // the rename removes the temporary name, so that a kill after it leaves nothing behind
  const fs::path temporary = write_temporary(file, content, flush);
  if (::rename(temporary.c_str(), file.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary.c_str());
    errno = error;
    system_error(file, kWritable);
  }
  if (flush == Flush::entry) flush_folder(folder_of(file));
}

bool write_once(const fs::path& file, std::string_view content) {
  const fs::path temporary = write_temporary(file, content, Flush::nothing);
  const bool linked = ::link(temporary.c_str(), file.c_str()) == 0;
  const int error = errno;
  // a network may lose the answer and repeat the call, which then finds the file that the first call made
  struct stat status {};
  const bool twice =
      !linked && error == EEXIST && ::stat(temporary.c_str(), &status) == 0 && status.st_nlink > 1;
  ::unlink(temporary.c_str());
  if (linked || twice) return true;
  if (error == EEXIST) return false;
  const std::array kNoLinks = {EPERM, ENOTSUP, ENOSYS, EMLINK};
  errno = error;
  if (std::find(kNoLinks.begin(), kNoLinks.end(), error) == kNoLinks.end()) system_error(file, kWritable);
  Descriptor descriptor(file, O_WRONLY | O_CREAT | O_EXCL);
  if (!descriptor && errno == EEXIST) return false;
  if (!descriptor) system_error(file, kWritable);
  if (::write(descriptor.number(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
    ::unlink(file.c_str());
    system_error(file, kWritable);
  }
  return true;
}

AtomicFile::AtomicFile(fs::path file) : file_(std::move(file)) {
  // A folder of its own keeps the file's name: writers such as TorchScript's put that name into the content.
  const fs::path folder =
      make_temporary(file_, [](const fs::path& name) { return ::mkdir(name.c_str(), 0777) == 0; });
  temporary_ = folder / file_.filename();
}

AtomicFile::~AtomicFile() {
  std::error_code ignored;
  if (!committed_) fs::remove(temporary_, ignored);
  fs::remove(temporary_.parent_path(), ignored);
}

void AtomicFile::commit(Flush flush) {
  Descriptor descriptor(temporary_, O_RDONLY);
  if (!descriptor || (flush != Flush::nothing && ::fsync(descriptor.number()) != 0) ||
      ::rename(temporary_.c_str(), file_.c_str()) != 0) {
    system_error(file_, kWritable);
  }
  committed_ = true;
  if (flush == Flush::entry) flush_folder(folder_of(file_));
}

namespace {

// Of a file, or of the entry of a folder that changed last.
fs::file_time_type last_change(const fs::path& path) {
  std::error_code ignored;
  fs::file_time_type last = fs::last_write_time(path, ignored);
  for (const fs::directory_entry& entry : fs::directory_iterator(path, ignored)) {
    last = std::max(last, entry.last_write_time(ignored));
  }
  return last;
}

// The time by the clock of the file system that holds `folder`; nothing if it cannot be found out.
std::optional<fs::file_time_type> time_in(const fs::path& folder) {
  try {
    const fs::path probe = write_temporary(folder / "clock", "x", Flush::nothing);
    std::error_code error;
    const fs::file_time_type now = fs::last_write_time(probe, error);
    ::unlink(probe.c_str());
    return error ? std::nullopt : std::optional(now);
  } catch (const UserError&) {
    return std::nullopt;
  }
}

}  // namespace

void remove_half_written(const fs::path& folder) {
  std::error_code ignored;
  std::vector<fs::path> of_others;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.front() != '.' || !name.ends_with(".tmp")) continue;
    const Life life = life_of_writer(name);
    if (life == Life::gone) fs::remove_all(entry.path(), ignored);
    if (life == Life::unknown) of_others.push_back(entry.path());
  }
  if (of_others.empty()) return;
  const std::optional<fs::file_time_type> now = time_in(folder);
  for (const fs::path& path : of_others) {
    const bool abandoned =
        now && std::chrono::duration<double>(*now - last_change(path)).count() > kAbandonedSeconds;
    if (abandoned) fs::remove_all(path, ignored);
  }
}

void make_folders(const fs::path& folder) {
  std::error_code code;
  fs::create_directories(folder, code);
  if (!code) return;
  errno = code.value();
  system_error(folder, "a place where a folder can be made");
}

std::string read_text(const fs::path& file) {
  std::string text;
  read_pieces(file, [&](const char* bytes, size_t count) { text.append(bytes, count); });
  return text;
}

nlohmann::json read_json(const fs::path& file) {
  std::vector<Problem> problems;
  std::optional<nlohmann::json> value = parse_json(read_text(file), file.string(), &problems);
  if (!problems.empty()) throw UserError(std::move(problems));
  return std::move(*value);
}

std::optional<fs::path> find_program(const std::string& name) {
  const auto is_executable = [](const fs::path& file) {
    std::error_code ignored;
    return fs::is_regular_file(file, ignored) && ::access(file.c_str(), X_OK) == 0;
  };
  if (name.find('/') != std::string::npos)
    return is_executable(name) ? std::optional(fs::path(name)) : std::nullopt;
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const fs::path file = fs::path(folder.empty() ? "." : folder) / name;
    if (!name.empty() && is_executable(file)) return file;
  }
  return std::nullopt;
}

std::string digest_of(std::string_view bytes) {
  return hexadecimal(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string digest_of_file(const fs::path& file) {
  const std::optional<DigestCache::Stamp> stamp = DigestCache::stamp_of(file);
  if (!stamp) system_error(file, "a readable file");
  const std::string name = digest_of(fs::absolute(file).lexically_normal().string());
  DigestCache& cache = digest_cache();
  {
    const std::lock_guard lock(cache.guard);
    if (const std::string* known = cache.find(name, *stamp)) return *known;
  }
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  read_pieces(file, [&](const char* bytes, size_t count) { XXH3_128bits_update(&state, bytes, count); });
  const std::string digest = hexadecimal(XXH3_128bits_digest(&state));
  const std::lock_guard lock(cache.guard);
  cache.set(name, *stamp, digest);
  cache.changed = cache.changed || DigestCache::bytes_in(*stamp) >= kLargeFile;
  return digest;
}

void load_digests(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return;
  try {
    const nlohmann::json value = nlohmann::json::parse(read_text(file));
    DigestCache& cache = digest_cache();
    const std::lock_guard lock(cache.guard);
    for (const auto& [name, entry] : value.items()) {
      cache.add(name, entry.at(0).get<DigestCache::Stamp>(), entry.at(1));
    }
  } catch (const std::exception&) {  // they are computed again
  }
}

void save_digests(const fs::path& file) {
  DigestCache& cache = digest_cache();
  const std::lock_guard lock(cache.guard);
  if (!cache.changed) return;
  nlohmann::json value = nlohmann::json::object();
  for (const auto& [name, entry] : cache.entries()) {
    const auto& [stamp, digest] = entry;
    if (DigestCache::bytes_in(stamp) >= kLargeFile) value[name] = {stamp, digest};
  }
  try {
    make_folders(folder_of(file));
    write_atomically(file, value.dump() + "\n");
    cache.changed = false;
  } catch (const UserError&) {  // writing the results there will fail too, and report why
  }
}

std::string format_number(double value) {
  if (std::isnan(value)) return "";
  if (value == 0) return "0";  // no "-0" in tables
  char buffer[64];
  const double size = std::abs(value);
  // the shortest form alone would write 100000 as 1e+05
  const auto result = size >= 1e-5 && size < 1e15
                          ? std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed)
                          : std::to_chars(buffer, buffer + sizeof(buffer), value);
  return {buffer, result.ptr};
}

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string field = "\"";
  for (const char letter : text) {
    if (letter == '"') field += '"';
    field += letter;
  }
  return field + '"';
}

}  // namespace harness
