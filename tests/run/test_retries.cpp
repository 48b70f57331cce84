#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <c10/util/Exception.h>

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "harness/core/process_name.hpp"
#include "harness/pool/machine.hpp"
#include "harness/pool/worker_process.hpp"
#include "tests/run/job.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

constexpr const char* kMark = "HARNESS_TEST_MARK";    // a file that approaches and hooks share
constexpr const char* kCrash = "HARNESS_TEST_CRASH";  // the approach at whose cell workers die
constexpr const char* kPart = "HARNESS_TEST_PART";    // where they do: "load", or "predict" after the fix
constexpr const char* kSick = "HARNESS_TEST_SICK";    // the device does not work once the mark is there

// For the workers that a test starts.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
  ~Environment() { ::unsetenv(name_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
};

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// In a worker: the folder of the cell it is at, whose log its standard error is.
fs::path cell_folder() {
  std::error_code ignored;
  return fs::read_symlink("/proc/self/fd/2", ignored).parent_path();
}

bool mark_is_new() {
  const fs::path mark = variable(kMark);
  if (fs::exists(mark)) return false;
  std::ofstream(mark) << "x";
  return true;
}

[[noreturn]] void device_assert() {
  throw c10::Error(c10::SourceLocation{"kernel", __FILE__, __LINE__},
                   "CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later");
}

const bool kFailingApproaches =
    add_approach("T_GOOD", [](const Network& original, auto&) { return unchanged(original); }) &&
    add_approach("T_ASSERTS", [](auto&, auto&) -> FixResult { device_assert(); }) &&
    add_approach("T_ASSERTS_ONCE",
                 [](const Network& original, auto&) {
                   if (mark_is_new()) device_assert();
                   return unchanged(original);
                 }) &&
    add_approach("T_MARKS_AND_ASSERTS",
                 [](auto&, auto&) -> FixResult {
                   mark_is_new();
                   device_assert();
                 }) &&
    // writes over the file that the mark names
    add_approach("T_SPOILS",
                 [](const Network& original, auto&) {
                   std::ofstream(variable(kMark)) << "no data any more";
                   return unchanged(original);
                 }) &&
    // writes among the replies to the engine
    add_approach("T_GARBLES",
                 [](const Network& original, auto&) {
                   const std::string garbage = "no message\n";
                   if (::write(pool::WorkerProcess::kReplies, garbage.data(), garbage.size()) < 0)
                     std::abort();
                   std::this_thread::sleep_for(std::chrono::seconds(1));
                   return unchanged(original);
                 }) &&
    // another process takes the cell over, and dies
    add_approach("T_LOSES_ITS_LEASE", [](const Network& original, auto&) {
      if (mark_is_new()) {
        const json other = {
            {"place", this_process().place}, {"process", 1}, {"started", "0"}, {"token", "another"}};
        write_atomically(cell_folder() / "lease.json", other.dump());
      }
      return unchanged(original);
    });

// Hooks at LibTorch's operators: argmax is what predictions end with, ones what a device is tried with.
std::unique_ptr<at::ObserverContext> at_operator(const at::RecordFunction& function) {
  const std::string name = function.name();
  const bool sick = name == "aten::ones" && !variable(kSick).empty() && fs::exists(variable(kMark));
  const std::string crash = variable(kCrash);
  const bool dies = name == "aten::argmax" && !crash.empty() &&
                    cell_folder().string().find(crash) != std::string::npos &&
                    fs::exists(cell_folder() / "fix.json") == (variable(kPart) == "predict");
  if (sick || dies) {
    std::signal(SIGSEGV, SIG_DFL);
    std::raise(SIGSEGV);
  }
  return nullptr;
}

[[maybe_unused]] const bool kHooked = [] {
  if (!variable(kCrash).empty() || !variable(kSick).empty()) {
    at::addGlobalCallback(at::RecordFunctionCallback(at_operator).scopes({at::RecordScope::FUNCTION}));
  }
  return true;
}();

json named(const std::string& key, const std::string& name) {
  return {{"key", key}, {"as", name}};
}

// Eighteen good cells behind those given.
json before_good_ones(std::vector<json> first) {
  json approaches = std::move(first);
  for (int k = 10; k < 28; ++k) approaches.push_back(named("T_GOOD", "GOOD_" + std::to_string(k)));
  return {{"approaches", approaches}};
}

int64_t good_ones(const Job& job) {
  int64_t count = 0;
  for (int k = 10; k < 28; ++k) count += outcome(job.record("GOOD_" + std::to_string(k))) == "ok ";
  return count;
}

std::string log_of(const Job& job, const std::string& approach) {
  return read_text(job.tree().cell({"S", "small", approach, 1}) / "log.txt");
}

size_t times(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

const std::string kAssert = "CUDA error: device-side assert triggered";

}  // namespace

TEST_CASE("cells that break their device each time cost themselves and nobody behind them") {
  Job job(before_good_ones({named("T_ASSERTS", "BAD_1"), named("T_ASSERTS", "BAD_2")}));
  const pool::RunSummary summary = job.run();
  CHECK(good_ones(job) == 18);
  CHECK(summary.done == 20);
  CHECK(summary.failed);
  CHECK(summary.errors.empty());
  for (const char* name : {"BAD_1", "BAD_2"}) {
    CHECK(outcome(job.record(name)) == "FAILURE crashed: " + kAssert + ", in fix");
    CHECK(times(log_of(job, name), "begins;") == 2);
  }
  CHECK(job.todo().empty());  // and nothing is left to be tried by the next run
}

TEST_CASE("a worker whose replies are none costs its cell, not the run") {
  Job job(json{{"approaches", {"T_GARBLES", "T_GOOD"}}});
  const pool::RunSummary summary = job.run();
  CHECK(outcome(job.record("T_GOOD")) == "ok ");
  const std::string reason = outcome(job.record("T_GARBLES"));
  CHECK(reason.rfind("FAILURE crashed: no message between engine and worker (", 0) == 0);
  CHECK(reason.ends_with("): no message, in fix"));
  CHECK(summary.done == 2);
}

TEST_CASE("one device assertion costs nothing but the time of a second try") {
  TemporaryFolder folder;
  const Environment mark(kMark, (folder / "mark").string());
  Job job(before_good_ones({named("T_ASSERTS_ONCE", "ONCE")}));
  const pool::RunSummary summary = job.run();
  CHECK(good_ones(job) == 18);
  CHECK(outcome(job.record("ONCE")) == "ok ");
  CHECK(times(log_of(job, "ONCE"), "begins;") == 2);
  CHECK(summary.done == 19);
  CHECK_FALSE(summary.failed);
}

TEST_CASE("a worker that dies outside of the fix says nothing of the approach the first time") {
  for (const std::string part : {"load", "predict"}) {
    Job job(json{{"approaches", {"T_GOOD", named("T_GOOD", "X_DIES")}}});
    const plan::Selection dying{.only = "S/X_DIES/1", .redo = {}, .retry = {}, .shard = {}};
    if (part == "predict") job.run({.only = "S/T_GOOD/1", .redo = {}, .retry = {}, .shard = {}});
    pool::RunSummary summary;
    {
      const Environment crash(kCrash, "X_DIES"), where(kPart, part);
      summary = job.run(dying);
    }
    CHECK(outcome(job.record("X_DIES")) ==
          "FAILURE crashed: the worker ended by signal 11 (SIGSEGV), in " + part);
    CHECK(times(log_of(job, "X_DIES"), "begins;") == 2);
    CHECK(summary.done == 1);
    CHECK(summary.failed);
  }
}

TEST_CASE("on a machine that does not work a cell stays missing, and its worker stops") {
  TemporaryFolder folder;
  const Environment mark(kMark, (folder / "mark").string()), sick(kSick, "1");
  Job job(json{{"approaches", {"T_MARKS_AND_ASSERTS", "T_GOOD"}}});
  const pool::RunSummary summary = job.run();
  CHECK(job.has_record("T_GOOD"));
  CHECK(summary.done == 1);
  CHECK(summary.failed);
  CHECK(summary.errors ==
        std::vector<std::string>{
            "stopped, as this machine does not work: the worker ended by signal 11 (SIGSEGV)",
            "S/T_MARKS_AND_ASSERTS/1 no result: " + kAssert + ", in fix"});
  CHECK(job.todo() == std::vector<std::string>{"S/T_MARKS_AND_ASSERTS/1"});
}

TEST_CASE("a file that goes bad leaves its own cells missing, and the others are done") {
  TemporaryFolder folder;
  fs::copy_file(data_file(), folder / "other.h5");
  const Environment mark(kMark, (folder / "other.h5").string());
  Job job(json{{"approaches", {"T_SPOILS"}}, {"runs", 2}});
  const auto subject = [](const char* name, const fs::path& data) {
    return json{{"name", name}, {"model", model_file().string()}, {"data", data.string()}};
  };
  job.change({{"subjects", {subject("R", data_file()), subject("S", folder / "other.h5")}}});
  const pool::RunSummary summary = job.run();
  CHECK(summary.statuses == std::map<std::string, int64_t>{{"ok", 2}, {"missing", 2}});
  CHECK(summary.failed);
  REQUIRE(summary.errors.size() == 2);
  for (const int64_t run : {1, 2}) {
    CHECK(job.tree().read({"R", "small", "T_SPOILS", run}));
    CHECK(summary.errors[static_cast<size_t>(run - 1)].rfind(
              "S/T_SPOILS/" + std::to_string(run) + " no result: " + (folder / "other.h5").string(), 0) == 0);
  }
}

TEST_CASE("a log that cannot be written leaves its cell missing") {
  Job job(before_good_ones({named("T_GOOD", "A_1"), named("T_GOOD", "A_2")}));
  for (const char* name : {"A_1", "A_2"})
    fs::create_directories(job.tree().cell({"S", "small", name, 1}) / "log.txt");
  const pool::RunSummary summary = job.run();
  CHECK(good_ones(job) == 18);
  CHECK(summary.done == 18);
  CHECK(summary.failed);
  REQUIRE(summary.errors.size() == 2);
  CHECK(summary.errors[0].rfind("S/A_1/1 no result: ", 0) == 0);
  CHECK(summary.errors[0].find("Is a directory") != std::string::npos);
  CHECK(summary.statuses == std::map<std::string, int64_t>{{"ok", 18}, {"missing", 2}});
}

TEST_CASE("who has lost a cell writes nothing of it any more") {
  TemporaryFolder folder;
  const Environment mark(kMark, (folder / "mark").string());
  Job job(json{{"approaches", {"T_LOSES_ITS_LEASE"}}});
  const pool::RunSummary summary = job.run();
  CHECK(outcome(job.record("T_LOSES_ITS_LEASE")) == "ok ");
  CHECK(summary.done == 1);
  CHECK_FALSE(summary.failed);
  const std::string log = log_of(job, "T_LOSES_ITS_LEASE");
  CHECK(times(log, "left to another process") == 1);
  CHECK(times(log, "begins;") == 2);
  CHECK(times(log.substr(0, log.find("left to another")), "predict") == 0);
  CHECK_FALSE(fs::exists(job.tree().cell({"S", "small", "T_LOSES_ITS_LEASE", 1}) / "lease.json"));
}

TEST_CASE("a disk works where a file can be written, read and removed") {
  TemporaryFolder folder;
  CHECK(pool::disk_error(folder.path()).empty());
  CHECK(fs::is_empty(folder.path()));
  CHECK(pool::disk_error(folder / "absent").find("No such file") != std::string::npos);
  CHECK_NOTHROW(pool::exercise_device(at::kCPU));
}
