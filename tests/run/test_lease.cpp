#include <sys/stat.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "harness/core/files.hpp"
#include "harness/core/process_name.hpp"
#include "harness/store/lease.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr double kShort = 0.2;  // seconds after which a lease is dead, in these tests

void pause(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

void write_lease(const fs::path& folder, const std::string& place, const std::string& token) {
  const json value = {{"place", place}, {"process", 1}, {"started", "0"}, {"token", token}};
  write_atomically(folder / "lease.json", value.dump());
}

// Moves the time of change, as another machine's clock would.
void move_time(const fs::path& file, double seconds) {
  fs::last_write_time(file,
                      fs::last_write_time(file) + std::chrono::duration_cast<fs::file_time_type::duration>(
                                                      std::chrono::duration<double>(seconds)));
}

std::string text_of(const fs::path& folder) {
  return read_text(folder / "lease.json");
}

size_t entries(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("a cell's lease is held by one, and given back") {
  TemporaryFolder folder;
  Lease::Watch watch;
  CHECK_FALSE(watch.is_alive(folder.path()));
  {
    const auto lease = Lease::take(folder / "a", watch);
    REQUIRE(lease);
    CHECK(watch.is_alive(folder / "a"));
    CHECK(Lease::seems_alive(folder / "a"));
    CHECK(Lease::is_held(folder / "a", lease->token()));
    CHECK_FALSE(Lease::is_held(folder / "a", "another"));
    CHECK_FALSE(Lease::take(folder / "a", watch));
    CHECK(entries(folder / "a") == 1);
  }
  CHECK(entries(folder / "a") == 0);
  CHECK_FALSE(Lease::is_held(folder / "a", ""));
}

TEST_CASE("the lease of a process that has gone is taken over, or swept away") {
  TemporaryFolder folder;
  Lease::Watch watch;
  write_lease(folder.path(), this_process().place, "old");
  CHECK_FALSE(watch.is_alive(folder.path()));
  CHECK_FALSE(Lease::seems_alive(folder.path()));
  CHECK(Lease::take(folder.path(), watch));
  write_lease(folder.path(), this_process().place, "old");
  watch.sweep(folder.path());
  CHECK(entries(folder.path()) == 0);
}

TEST_CASE("another place's lease lives as long as it changes, whatever anybody's clock says") {
  TemporaryFolder folder;
  for (const double hours : {-1, 0, 1}) {
    Lease::Watch watch(kShort);
    write_lease(folder.path(), "elsewhere", "theirs");
    move_time(folder / "lease.json", 3600 * hours);
    CHECK(watch.is_alive(folder.path()));
    CHECK_FALSE(Lease::take(folder.path(), watch));
    for (int beat = 0; beat < 3; ++beat) {
      pause(0.7 * kShort);
      move_time(folder / "lease.json", 0.001);
      CHECK(watch.is_alive(folder.path()));
    }
    watch.sweep(folder.path());
    CHECK(entries(folder.path()) == 1);
    pause(1.5 * kShort);
    CHECK_FALSE(watch.is_alive(folder.path()));
    CHECK(Lease::take(folder.path(), watch));
    CHECK(entries(folder.path()) == 0);
  }
}

TEST_CASE("of many that find a dead lease one gets it") {
  TemporaryFolder folder;
  for (int round = 0; round < 20; ++round) {
    write_lease(folder.path(), this_process().place, "dead " + std::to_string(round));
    std::vector<std::unique_ptr<Lease>> taken(8);
    std::atomic<size_t> ready = 0;
    std::vector<std::thread> thieves;
    for (auto& lease : taken) {
      thieves.emplace_back([&] {
        Lease::Watch watch;
        for (++ready; ready < taken.size();) std::this_thread::yield();
        lease = Lease::take(folder.path(), watch);
      });
    }
    for (std::thread& thief : thieves) thief.join();
    const auto held = std::count_if(taken.begin(), taken.end(), [&](const auto& lease) {
      return lease && Lease::is_held(folder.path(), lease->token());
    });
    CHECK(held <= 1);  // where they took each other's away, the next try has it
    CHECK(entries(folder.path()) == static_cast<size_t>(held));
    taken.clear();
    CHECK(entries(folder.path()) == 0);
  }
}

TEST_CASE("who has lost a lease neither renews nor removes the one that is there now") {
  TemporaryFolder folder;
  Lease::Watch watch;
  auto lease = Lease::take(folder.path(), watch);
  REQUIRE(lease);
  write_lease(folder.path(), "elsewhere", "theirs");
  const auto before = fs::last_write_time(folder / "lease.json");
  const std::string theirs = text_of(folder.path());
  pause(0.02);
  lease->beat();
  CHECK_FALSE(Lease::is_held(folder.path(), lease->token()));
  lease.reset();
  CHECK(text_of(folder.path()) == theirs);
  CHECK(fs::last_write_time(folder / "lease.json") == before);
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("a beat is seen, and what is no lease is judged by its changes") {
  TemporaryFolder folder;
  Lease::Watch watch(kShort), other(kShort);
  auto lease = Lease::take(folder.path(), watch);
  REQUIRE(lease);
  const auto before = fs::last_write_time(folder / "lease.json");
  pause(0.02);
  lease->beat();
  CHECK(fs::last_write_time(folder / "lease.json") > before);
  lease.reset();
  for (const char* text : {"", "{\"place\": 3}", "[]", "half a {"}) {
    std::ofstream(folder / "lease.json") << text;
    CHECK(other.is_alive(folder.path()));
    pause(1.5 * kShort);
    CHECK_FALSE(other.is_alive(folder.path()));
    other.sweep(folder.path());
    CHECK(entries(folder.path()) == 0);
  }
}
