#include "harness/store/lease.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/core/error.hpp"
#include "harness/core/files.hpp"
#include "harness/core/process_name.hpp"

namespace harness {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Clock = std::chrono::steady_clock;

fs::path file_in(const fs::path& folder) {
  return folder / "lease.json";
}

bool is_absent(int error) {
  return error == ENOENT || error == ENOTDIR;
}

bool is_there(const fs::path& file) {
  struct stat status {};
  return ::lstat(file.c_str(), &status) == 0 || !is_absent(errno);
}

// Tokens of leases that this process has given back, though their files could not be removed.
struct Left {
  std::mutex guard;
  std::set<std::string> tokens;
};

Left& left() {
  static Left tokens;
  return tokens;
}

bool is_left(const std::string& token) {
  const std::lock_guard lock(left().guard);
  return left().tokens.count(token) > 0;
}

// A lease as it lies there now.
struct Found {
  std::string stamp;  // of content and time of change; "" where there is none
  std::string token;  // "" where it cannot be read
  Life life = Life::unknown;
  double changed = 0;  // seconds, in the time of the file system
};

Found look(const fs::path& file) {
  Found found;
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0 && is_absent(errno)) return found;
  std::string content;
  try {
    content = read_text(file);
  } catch (const UserError&) {
    if (!is_there(file)) return found;
  }
  found.changed =
      static_cast<double>(status.st_mtim.tv_sec) + 1e-9 * static_cast<double>(status.st_mtim.tv_nsec);
  found.stamp =
      std::to_string(status.st_mtim.tv_sec) + "." + std::to_string(status.st_mtim.tv_nsec) + " " + content;
  const json value = json::parse(content, nullptr, false);
  try {
    found.token = value.at("token");
    found.life = life_of({value.at("place"), value.at("process"), value.at("started")});
    if (is_left(found.token)) found.life = Life::gone;
  } catch (const json::exception&) {  // no lease of ours: only its changes count
  }
  return found;
}

// Removes the file if it still has this stamp. It is first renamed to a name of its own, so that only one of
// several processes that try gets it. A file that turns out to have another stamp is put back.
bool take_away(const fs::path& file, const std::string& stamp) {
  const fs::path aside = temporary_name(file);
  if (::rename(file.c_str(), aside.c_str()) != 0) return false;
  const bool is_it = look(aside).stamp == stamp;
  if (!is_it && ::link(aside.c_str(), file.c_str()) != 0 && errno != EEXIST && !is_there(file)) {
    ::rename(aside.c_str(), file.c_str());  // a file system without links
    return false;
  }
  ::unlink(aside.c_str());
  return is_it;
}

}  // namespace

std::string Lease::Watch::stamp_of_dead(const fs::path& file) {
  const Found found = look(file);
  if (found.stamp.empty()) {
    seen_.erase(file);
    return "";
  }
  if (found.life == Life::gone) return found.stamp;
  if (found.life == Life::alive) return "";
  const Clock::time_point now = Clock::now();
  const auto [seen, is_new] = seen_.try_emplace(file, Seen{found.stamp, now});
  if (!is_new && seen->second.stamp != found.stamp) seen->second = {found.stamp, now};
  const double unchanged = std::chrono::duration<double>(now - seen->second.since).count();
  return unchanged >= dead_seconds_ ? found.stamp : "";
}

bool Lease::Watch::is_alive(const fs::path& folder) {
  const fs::path file = file_in(folder);
  return stamp_of_dead(file).empty() && is_there(file);
}

void Lease::Watch::sweep(const fs::path& folder) {
  const fs::path file = file_in(folder);
  const std::string stamp = stamp_of_dead(file);
  if (!stamp.empty()) take_away(file, stamp);
}

Lease::Lease(fs::path file, std::string token)
    : file_(std::move(file)),
      token_(std::move(token)),
      descriptor_(::open(file_.c_str(), O_WRONLY | O_CLOEXEC)) {}

std::unique_ptr<Lease> Lease::take(const fs::path& folder, Watch& watch) {
  make_folders(folder);
  const fs::path file = file_in(folder);
  const std::string dead = watch.stamp_of_dead(file);
  if (!dead.empty()) take_away(file, dead);
  const ProcessName owner = this_process();
  const std::string token = random_name(16);
  const json value = {
      {"place", owner.place}, {"process", owner.number}, {"started", owner.started}, {"token", token}};
  // a name appears once: of several that found the same dead lease one gets it
  if (!write_once(file, value.dump() + "\n")) return nullptr;
  std::unique_ptr<Lease> lease(new Lease(file, token));
  return is_held(folder, token) ? std::move(lease) : nullptr;
}

Lease::~Lease() {
  if (descriptor_ >= 0) ::close(descriptor_);
  try {
    const Found found = look(file_);
    const bool is_others = !found.token.empty() && found.token != token_;
    if (found.stamp.empty() || is_others) return;
    if (found.token == token_ && take_away(file_, found.stamp)) return;
    const std::lock_guard lock(left().guard);
    left().tokens.insert(token_);
  } catch (const std::exception&) {  // a lease that stays is dead once this process has ended
  }
}

void Lease::beat() {
  if (descriptor_ < 0 && look(file_).token == token_) {  // no free descriptor before
    descriptor_ = ::open(file_.c_str(), O_WRONLY | O_CLOEXEC);
  }
  if (descriptor_ >= 0) ::futimens(descriptor_, nullptr);  // on a shared file system in the server's time
}

bool Lease::is_held(const fs::path& folder, const std::string& token) {
  const fs::path file = file_in(folder);
  if (!is_there(file)) return false;
  std::string content;
  try {
    content = read_text(file);
  } catch (const UserError&) {
    if (!is_there(file)) return false;  // it was removed in between
    throw;
  }
  const json value = json::parse(content, nullptr, false);
  return value.is_object() && value.value("token", json()) == token;
}

bool Lease::seems_alive(const fs::path& folder) {
  const Found found = look(file_in(folder));
  if (found.stamp.empty() || found.life != Life::unknown)
    return !found.stamp.empty() && found.life == Life::alive;
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return now - found.changed < kDeadSeconds;
}

}  // namespace harness
