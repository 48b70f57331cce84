#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <thread>

#include "harness/cell/fixing.hpp"
#include "harness/core/clock.hpp"
#include "harness/core/files.hpp"
#include "harness/core/stop_signals.hpp"
#include "harness/external/external.hpp"
#include "tests/run/fixture.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// What every program of these tests begins with; `out` and `say` write the model and the report.
const std::string kPrelude = R"sh(
get() { sed -n "s/^ \"$1\": \"\(.*\)\",\{0,1\}\$/\1/p" "$request"; }
request=$1
out() { cp "$(get model)" "$(get output)"; }
say() { printf '%s' "$1" > "$(get report)"; }
)sh";
const std::string kGood = "out; say '{\"status\": \"ok\"}'\n";

// One job with a program of shell commands, in a folder of its own unless one is given.
class External {
 public:
  explicit External(const std::string& commands, fs::path scratch = {})
      : scratch_(scratch.empty() ? folder_.path() : std::move(scratch)) {
    write_atomically(script_, kPrelude + commands);
    program.command = {"/bin/sh", script_.string()};
    program.needs = {"repair"};
    subject_config_.name = "S";
    subject_config_.model = model_file();
    subject_config_.data = data_file();
  }

  cell::FixOutcome run() {
    const Subject subject(subject_config_, config, at::kCPU);
    ApproachConfig entry;
    entry.key = "MINE";
    entry.hyperparameters = parameters;
    entry.external = program;
    const Approach approach = external::external_approach(
        entry, {.subject = subject.config(),
                .load_model = [&](const fs::path& file) { return subject.load_model(file); },
                .budget = budget,
                .seconds_before = before.seconds,
                .scratch = scratch_});
    cell::FixJob job = cell::fix_job(approach, subject, entry, {}, std::numeric_limits<uint64_t>::max());
    job.budget = budget;
    job.before = before;
    const auto start = std::chrono::steady_clock::now();
    cell::FixOutcome outcome = cell::run_fix(job);
    seconds = seconds_since(start);
    return outcome;
  }
  std::string outcome() {
    const cell::FixOutcome found = run();
    CHECK(found.result.network.has_value() == (found.status == Status::ok));
    return std::string(to_text(found.status)) + " " + found.reason;
  }
  fs::path operator/(const std::string& name) const { return scratch_ / name; }

  ExternalProgram program;
  Hyperparameters parameters;
  Config config;
  Budget budget;
  cell::FixSpent before;
  double seconds = 0;

 private:
  TemporaryFolder folder_, script_folder_;
  fs::path scratch_, script_ = script_folder_ / "fix.sh";
  SubjectConfig subject_config_;
};

std::string outcome_of(const std::string& commands) {
  return External(commands).outcome();
}

bool is_running(pid_t process) {
  std::ifstream stream("/proc/" + std::to_string(process) + "/stat");
  std::string stat;
  if (!std::getline(stream, stat)) return false;
  return stat[stat.rfind(')') + 2] != 'Z';
}

bool comes_true(const std::function<bool()>& condition) {
  for (int i = 0; i < 6000; ++i) {  // a minute: the machine may have other work
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

pid_t number_in(const fs::path& file) {
  pid_t number = 0;
  std::ifstream(file) >> number;
  return number;
}

// This program again with one hidden test, on a folder: stop signals and sudden death leave traces in a
// process.
pid_t start_hidden(const std::string& test, const fs::path& folder) {
  const std::string folder_text = folder.string();
  const pid_t process = fork();
  if (process != 0) return process;
  setenv("TEST_EXTERNAL_FOLDER", folder_text.c_str(), 1);
  execl("/proc/self/exe", "test_run", test.c_str(), static_cast<char*>(nullptr));
  _exit(127);
}

fs::path given_folder() {
  const char* folder = std::getenv("TEST_EXTERNAL_FOLDER");
  REQUIRE(folder != nullptr);
  return folder;
}

// Networks that are no fix, made once by Python.
const fs::path& odd_models() {
  static const TemporaryFolder folder;
  static const bool made = [] {
    std::string program = R"(
import torch
def save(name, classes, scale):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, classes))
    with torch.no_grad():
        net[1].bias.mul_(scale)
    torch.jit.script(net).save('@/' + name)
save('four.pt', 4, 1)
save('nan.pt', 3, float('nan'))
)";
    for (size_t at; (at = program.find('@')) != std::string::npos;) program.replace(at, 1, folder.path());
    run_python(program);
    return true;
  }();
  (void)made;
  return folder.path();
}

}  // namespace

TEST_CASE("an external program gets a request, and what it makes is the fix") {
  External external(R"(
out
say '{"status": "ok", "reason": "as /some/where/model.pt was", "phases": {"search": 0.25},
      "counters": {"steps": 7}, "scalars": {"loss": -1.5}}'
pwd > here
cat > input
echo to be read in the log
)");
  external.program.uses = {"train", "validation"};
  external.parameters = Hyperparameters(json{{"steps", 3}, {"list", {1, "x"}}});
  external.config.limit = {{"repair", 30}};
  external.config.batch = 17;
  const cell::FixOutcome outcome = external.run();
  CHECK(outcome.status == Status::ok);
  CHECK(outcome.reason == "note: as model.pt was");
  REQUIRE(outcome.result.network);
  CHECK(outcome.result.network->classes() == 3);
  CHECK(outcome.result.touched.everything);
  CHECK(outcome.log.phases == std::map<std::string, double>{{"search", 0.25}});
  CHECK(outcome.log.counters == std::map<std::string, int64_t>{{"steps", 7}});
  CHECK(outcome.log.scalars == std::map<std::string, double>{{"loss", -1.5}});
  CHECK(outcome.seconds > 0);
  CHECK(outcome.seconds < external.seconds);
  CHECK(fs::equivalent(read_text(external / "here").substr(0, read_text(external / "here").find('\n')),
                       external / ""));
  CHECK(read_text(external / "input").empty());

  json request = read_json(external / "request.json");
  const fs::path data = request["data"].get<std::string>();
  CHECK(fs::equivalent(request["model"].get<std::string>(), model_file()));
  for (const char* path : {"model", "data", "output", "report", "state"}) {
    CHECK(fs::path(request[path].get<std::string>()).is_absolute());
    request.erase(path);
  }
  CHECK(request == json{{"schema", 1},
                        {"splits", {"repair"}},
                        {"seed", std::numeric_limits<uint64_t>::max()},
                        {"device", "cpu"},
                        {"threads", at::get_num_threads()},
                        {"batch", 17},
                        {"budget", nullptr},
                        {"parameters", {{"steps", 3}, {"list", {1, "x"}}}},
                        {"training", nullptr},
                        {"history", json::array()}});
  const Dataset handed = Dataset::open(data);
  CHECK(handed.split_names() == std::vector<std::string>{"repair"});
  CHECK(handed.split("repair").size() == 30);
}

TEST_CASE("a program that does not end well has crashed, with what it said last") {
  CHECK(outcome_of("echo one; echo; printf 'gave\\tup in /a/b.py' >&2; echo; exit 3") ==
        "FAILURE crashed: exit code 3: gave up in b.py");
  CHECK(outcome_of("exit 1") == "FAILURE crashed: exit code 1");
  CHECK(outcome_of(kGood + "exit 9") == "FAILURE crashed: exit code 9");
  CHECK(outcome_of("kill -SEGV $$") == "FAILURE crashed: killed by signal 11 (SIGSEGV)");
  CHECK(outcome_of("printf 'caf\\351'; exit 1") == "FAILURE crashed: exit code 1: caf\xef\xbf\xbd");
  const std::string flood = outcome_of("head -c 100000 /dev/zero | tr '\\0' x; exit 2");
  CHECK(flood.size() < 400);
  CHECK(flood.rfind("FAILURE crashed: exit code 2: xxx", 0) == 0);
}

TEST_CASE("a report says what became of the fix, or the program has crashed") {
  const auto reported = [](const std::string& report) { return outcome_of("out; say '" + report + "'\n"); };
  const std::string crashed = "FAILURE crashed: report: ";
  CHECK(outcome_of("true") == crashed + "found no such file, expected the program to write it");
  CHECK(reported("").rfind(crashed + "line 1, column ", 0) == 0);
  CHECK(reported("[]") == crashed + "/: found an empty list, expected an object");
  CHECK(reported("{}") == crashed + R"(/: found no key "status", expected it to be given)");
  CHECK(reported(R"({"status": "okay"})") ==
        crashed + R"(/status: found text "okay", expected "ok" or "FAILURE" or "UNADAPTABLE")");
  CHECK(reported(R"({"status": "ok", "phase": {}})").rfind(crashed + "/phase: found an unknown key", 0) == 0);
  CHECK(reported(R"({"status": "ok", "phases": {"a": -1}})") ==
        crashed + "/phases/a: found -1, expected a number of at least 0");
  CHECK(reported(R"({"status": "ok", "counters": {"a": 1.5}})") ==
        crashed + "/counters/a: found 1.5, expected a whole number");
  CHECK(reported(R"({"status": "ok", "scalars": [1]})") ==
        crashed + "/scalars: found a list of 1, expected an object");
  CHECK(reported(R"({"status": "ok", "scalars": {"a b": 1}})").rfind(crashed + "/scalars/a b: found", 0) ==
        0);
  CHECK(reported(R"({"status": "FAILURE"})") ==
        crashed + R"(/: found no key "reason", expected it to be given)");
  CHECK(reported(R"({"status": "FAILURE", "reason": "No luck"})") ==
        crashed + R"(/reason: found text "No luck", expected "code: text", the code in small letters)");
  CHECK(reported(R"({"status": "FAILURE", "reason": "no_fix: none was better"})") ==
        "FAILURE no_fix: none was better");
  CHECK(reported(R"({"status": "UNADAPTABLE", "reason": "no_conv: there is no convolution"})") ==
        "UNADAPTABLE no_conv: there is no convolution");
  CHECK(reported(R"({"status": "ok"})") == "ok ");
}

TEST_CASE("a model that is none is a crash, one of NaN is for the evaluation") {
  CHECK(outcome_of("say '{\"status\": \"ok\"}'") ==
        "FAILURE crashed: no model: the report says ok, but there is no fixed.pt");
  const std::string broken = outcome_of(kGood + "echo text > \"$(get output)\"");
  INFO(broken);
  CHECK(broken.rfind("FAILURE crashed: broken model: fixed.pt: found ", 0) == 0);
  CHECK(broken.find("/tmp/") == std::string::npos);
  const auto odd = [](const std::string& name) {
    return outcome_of(kGood + "cp " + (odd_models() / name).string() + " \"$(get output)\"");
  };
  CHECK(odd("four.pt") ==
        "FAILURE crashed: broken model: fixed.pt: output: found 4 classes, expected 3 classes, as the "
        "original");
  CHECK(odd("nan.pt") == "ok ");
}

TEST_CASE("without a split it needs, a program is not started") {
  External external("touch started");
  external.program.needs = {"repair", "train"};
  CHECK(external.outcome() ==
        "UNADAPTABLE missing_split: the approach needs the split train, which the data does not have");
  CHECK(fs::is_empty(external / ""));
}

TEST_CASE("a program that cannot be started is an error of the configuration") {
  External external("true");
  external.program.command = {"no-such-program-anywhere"};
  CHECK_THROWS_AS(external.run(), UserError);
  write_atomically(external / "text", "no script");
  fs::permissions(external / "text", fs::perms::owner_all);
  external.program.command = {(external / "text").string()};
  CHECK_THROWS_AS(external.run(), UserError);
}

TEST_CASE("what a program leaves running ends with it") {
  External external(kGood + "sleep 1000 & echo $! > child\n(timeout 900 sleep 900 & echo $! > other)");
  CHECK(external.outcome() == "ok ");
  for (const char* file : {"child", "other"}) {
    const pid_t child = number_in(external / file);
    REQUIRE(child > 0);
    CHECK(comes_true([&] { return !is_running(child); }));
  }
}

TEST_CASE("a program out of time is asked to end, then made to") {
  External checked("while :; do sleep 0.05; done");
  checked.budget.seconds = 0.3;
  CHECK(checked.outcome() == "FAILURE timeout: no fix within 0.3 s");
  CHECK(read_json(checked / "request.json")["budget"] == json{{"seconds", 0.3}, {"megabytes", nullptr}});
  External made("trap '' TERM; echo $$ > id; while :; do sleep 0.05; done");
  made.budget.seconds = 1;
  CHECK(made.outcome() == "FAILURE timeout: no fix within 1 s");
  CHECK(made.seconds > 3);
  CHECK(made.seconds < 20);
  CHECK(comes_true([&] { return !is_running(number_in(made / "id")); }));
}

TEST_CASE("a fix that is ready in the time of grace counts") {
  External external(
      "trap 'out; say \"{\\\"status\\\": \\\"ok\\\", \\\"reason\\\": \\\"half done\\\"}\"; exit 0' TERM\n"
      "while :; do sleep 0.05; done");
  external.budget.seconds = 1;
  CHECK(external.outcome() == "ok note: half done; stopped by its budget");
  External failing("trap 'say \"{}\"; exit 0' TERM\nwhile :; do sleep 0.05; done");
  failing.budget.seconds = 1;
  CHECK(failing.outcome().rfind("FAILURE crashed: report: ", 0) == 0);
}

TEST_CASE("a program with too much memory is killed, whichever of its processes has it") {
  External external("(head -c 300000000 /dev/zero; sleep 60) | tail > rest; sleep 60");
  external.budget.megabytes = 150;
  CHECK(external.outcome() == "FAILURE out_of_memory: no fix within 150 MB");
  CHECK(external.seconds < 30);
  External modest("sleep 0.5;" + kGood);
  modest.budget = {.seconds = 100, .megabytes = 150};
  CHECK(modest.outcome() == "ok ");
}

TEST_CASE("hidden: a program meets a stop signal", "[.stopped]") {
  External external(
      "echo $$ > id; trap 'echo half > \"$(get state)/half\"; exit 0' TERM; echo > ready\n"
      "while :; do sleep 0.05; done",
      given_folder());
  install_stop_signals(false);
  std::thread sender([&] {
    comes_true([&] { return fs::exists(external / "ready"); });
    raise(SIGTERM);
  });
  CHECK_THROWS_AS(external.run(), Interrupted);
  sender.join();
}

TEST_CASE("a stop signal interrupts a program, and it can go on from its state") {
  TemporaryFolder folder;
  const pid_t hidden = start_hidden("[.stopped]", folder.path());
  int status = 0;
  REQUIRE(waitpid(hidden, &status, 0) == hidden);
  CHECK(status == 0);
  CHECK(read_text(folder / "state/half") == "half\n");
  CHECK_FALSE(is_running(number_in(folder / "id")));
  write_atomically(folder / "report.json", "of another time");
  External again(
      "[ ! -e \"$(get report)\" ] && grep -q half \"$(get state)/half\" && out && "
      "say '{\"status\": \"ok\", \"phases\": {\"b\": 1}}'",
      folder.path());
  again.before.seconds = 5;
  again.before.phases = {{"a", 3}, {"b", 2}};
  again.budget.seconds = 15;
  const cell::FixOutcome outcome = again.run();
  CHECK(outcome.status == Status::ok);
  CHECK(outcome.seconds > 5);
  CHECK(outcome.seconds < 15);
  CHECK(outcome.log.phases == std::map<std::string, double>{{"a", 3}, {"b", 3}});
  CHECK(read_json(folder / "request.json")["budget"]["seconds"] == 10);
}

TEST_CASE("hidden: a program that hangs", "[.hangs]") {
  External external("echo $$ > id; exec sleep 1000", given_folder());
  external.run();
}

TEST_CASE("a program dies with its worker") {
  TemporaryFolder folder;
  const pid_t hidden = start_hidden("[.hangs]", folder.path());
  REQUIRE(comes_true([&] { return number_in(folder / "id") > 0; }));
  const pid_t program = number_in(folder / "id");
  CHECK(is_running(program));
  kill(hidden, SIGKILL);
  waitpid(hidden, nullptr, 0);
  CHECK(comes_true([&] { return !is_running(program); }));
}
