#include <chrono>
#include <csignal>
#include <limits>
#include <new>
#include <set>
#include <thread>

#include "harness/approach/approach.hpp"
#include "harness/cell/cell.hpp"
#include "harness/core/files.hpp"
#include "harness/pool/engine.hpp"
#include "tests/run/fixture.hpp"
#include "tests/run/job.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// Approaches that misbehave, each in its own way.
FixResult filled(const Network& original, const std::string& parameter, double value) {
  FixResult result{.network = original.fork(), .failure = {}, .touched = {}, .note = ""};
  const ParameterId id = result.network->find_parameter(parameter);
  result.network->set_parameter(id,
                                at::full_like(original.parameters()[static_cast<size_t>(id)].value, value));
  result.touched.weights[parameter] = {};
  return result;
}

// Counts to 1000 in its own time and says what it began with; goes on from its checkpoint.
FixResult counting_fix(const Network& original, FixContext& context) {
  int64_t count = 0;
  if (const auto saved = context.load_checkpoint()) count = saved->at("count").item<int64_t>();
  context.log().counters["begun_with"] = count;
  const PhaseTimer timer(context.log(), "count");
  const auto save = [&] { context.save_checkpoint({{"count", at::scalar_tensor(count, at::kLong)}}); };
  while (count < 1000) {
    if (context.stop().requested()) {
      save();
      return no_fix();
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    ++count;
    if (context.checkpoint_due()) save();
  }
  return {.network = original.fork(), .failure = {}, .touched = {}, .note = ""};
}

const bool kEngineApproaches =
    add_approach("T_THROWS", [](auto&, auto&) -> FixResult { throw std::runtime_error("gave up\nhere"); }) &&
    add_approach("T_MEMORY", [](auto&, auto&) -> FixResult { throw std::bad_alloc(); }) &&
    add_approach("T_NOTHING", [](auto&, auto&) { return no_fix(); }) &&
    add_approach("T_NAN",
                 [](const Network& original, auto&) {
                   return filled(original, "b.bias", std::numeric_limits<double>::quiet_NaN());
                 }) &&
    add_approach("T_BAD",
                 [](const Network& original, auto&) {
                   FixResult result = filled(original, "b.weight", 0);
                   result.network->set_parameter(result.network->find_parameter("b.bias"),
                                                 at::tensor({0.0F, 0.0F, 9.0F}));
                   result.touched.weights["b.bias"] = {};
                   return result;
                 }) &&
    add_approach("T_LIAR",
                 [](const Network& original, auto&) {
                   FixResult result = filled(original, "a.bias", 0);
                   result.touched.weights.clear();
                   return result;
                 }) &&
    add_approach("T_SAME",
                 [](const Network& original, FixContext& context) {
                   context.log().counters["seed"] = static_cast<int64_t>(context.seed("x") >> 1);
                   return FixResult{
                       .network = original.fork(), .failure = {}, .touched = {}, .note = "as it was"};
                 }) &&
    add_approach("T_SLOW",
                 [](auto&, FixContext& context) {
                   while (!context.stop().requested())
                     std::this_thread::sleep_for(std::chrono::milliseconds(5));
                   return no_fix();
                 }) &&
    add_approach(
        "T_TRAIN", [](auto&, auto&) { return no_fix(); }, "train") &&
    add_approach("T_CRASH",
                 [](auto&, auto&) -> FixResult {
                   std::signal(SIGSEGV, SIG_DFL);  // also where a sanitizer would catch it
                   std::raise(SIGSEGV);
                   return no_fix();
                 }) &&
    add_approach("T_ABORT",
                 [](auto&, FixContext& context) -> FixResult {
                   context.split("test");  // undeclared: misuse of the interface
                   return no_fix();
                 }) &&
    add_approach("T_DEAF",
                 [](auto&, auto&) -> FixResult {
                   while (true) std::this_thread::sleep_for(std::chrono::milliseconds(5));
                 }) &&
    add_approach("T_HOG",
                 [](auto&, auto&) -> FixResult {
                   std::vector<at::Tensor> kept;
                   while (true) kept.push_back(at::ones({int64_t{1} << 24}));  // 64 MiB each
                 }) &&
    add_approach("T_STEPS", counting_fix);

}  // namespace

TEST_CASE("every way a fix can end has its status and reason") {
  Job job(json{{"approaches",
                {"T_THROWS",
                 "T_MEMORY",
                 "T_NOTHING",
                 "T_NAN",
                 "T_BAD",
                 "T_LIAR",
                 "T_SAME",
                 "T_TRAIN",
                 {{"key", "T_SLOW"}, {"budget", {{"seconds", 0.05}}}}}}});
  const pool::RunSummary summary = job.run();
  CHECK(summary.done == 9);
  CHECK(summary.failed);
  CHECK_FALSE(summary.interrupted);
  CHECK(outcome(job.record("T_THROWS")) == "FAILURE crashed: gave up");
  CHECK(outcome(job.record("T_MEMORY")).rfind("FAILURE out_of_memory: ", 0) == 0);
  CHECK(outcome(job.record("T_NOTHING")) == "FAILURE no_fix: the approach found none");
  CHECK(outcome(job.record("T_SLOW")).rfind("FAILURE timeout: no fix within", 0) == 0);
  CHECK(outcome(job.record("T_TRAIN")) ==
        "UNADAPTABLE missing_split: the approach needs the split train, which the data does not have");
  CHECK(outcome(job.record("T_NAN")).rfind("CORRUPTED not_finite: ", 0) == 0);
  CHECK(outcome(job.record("T_BAD")).rfind("CORRUPTED accuracy: ", 0) == 0);
  CHECK(job.record("T_BAD").mistrusted() == false);
  CHECK(outcome(job.record("T_LIAR")) == "ok ");
  CHECK(job.record("T_LIAR").mistrusted());
  CHECK(outcome(job.record("T_SAME")) == "ok note: as it was");
  CHECK_FALSE(job.record("T_SAME").mistrusted());
  CHECK(job.record("T_SAME").counters.at("changed_weights") == 0);
  CHECK(job.record("T_SAME").phases.at("fix") >= 0);
  for (const char* file : {"fixed.pt", "predictions.csv", "predictions_repair.csv"}) {
    CHECK(fs::exists(job.tree().cell({"S", "small", "T_SAME", 1}) / file));
  }
  CHECK_FALSE(fs::exists(job.tree().cell({"S", "small", "T_SAME", 1}) / "attack.csv"));  // none configured
}

TEST_CASE("a crash, a hang, a memory hog and a broken model cost one cell each") {
  json approaches = json::array();
  for (int k = 1; k <= 16; ++k)
    approaches.push_back({{"key", "T_SAME"}, {"as", "GOOD_" + std::to_string(k)}});
  approaches.push_back("T_CRASH");
  approaches.push_back("T_NAN");
  approaches.push_back({{"key", "T_DEAF"}, {"budget", {{"seconds", 0.2}}}});
  approaches.push_back({{"key", "T_HOG"}, {"budget", {{"megabytes", 1500}}}});
  Job job(json{{"approaches", approaches}});
  job.jobs = 2;
  const pool::RunSummary summary = job.run();
  CHECK(summary.done == 20);
  CHECK(summary.failed);  // exit code 1
  CHECK(summary.errors.empty());
  CHECK(summary.statuses == std::map<std::string, int64_t>{{"ok", 16}, {"FAILURE", 3}, {"CORRUPTED", 1}});
  for (int k = 1; k <= 16; ++k)
    CHECK(outcome(job.record("GOOD_" + std::to_string(k))) == "ok note: as it was");
  CHECK(outcome(job.record("T_CRASH")) == "FAILURE crashed: the worker ended by signal 11 (SIGSEGV), in fix");
  CHECK(outcome(job.record("T_NAN")).rfind("CORRUPTED not_finite: ", 0) == 0);
  CHECK(outcome(job.record("T_DEAF")) ==
        "FAILURE timeout: no fix within 0.2 s, and it did not stop by itself");
  CHECK(outcome(job.record("T_HOG")).rfind("FAILURE out_of_memory: ", 0) == 0);
  CHECK(job.record("T_DEAF").phases.at("fix") > 0.2);
  CHECK(job.record("GOOD_1").concurrent_workers == 2);
  CHECK(summary.failures.size() == 3);
  CHECK(job.todo().empty());
}

TEST_CASE("misuse of an interface aborts the worker and says so in the cell's log") {
  Job job(json{{"approaches", {"T_ABORT", "T_SAME"}}});
  job.run();
  CHECK(outcome(job.record("T_ABORT")) == "FAILURE crashed: the worker ended by signal 6 (SIGABRT), in fix");
  CHECK(outcome(job.record("T_SAME")) == "ok note: as it was");
  const std::string log = read_text(job.tree().cell({"S", "small", "T_ABORT", 1}) / "log.txt");
  CHECK(log.find("uses the split \"test\", which it did not declare") != std::string::npos);
}

TEST_CASE("what ran out of its budget goes on from there once that has grown") {
  const auto with_budget = [](double seconds) {
    return json{{"approaches", {{{"key", "T_STEPS"}, {"budget", {{"seconds", seconds}}}}}}};
  };
  Job job(with_budget(0.1));
  job.run();
  CHECK(outcome(job.record("T_STEPS")) == "FAILURE timeout: no fix within 0.1 s");
  job.change(with_budget(60));
  job.run();
  const Record record = job.record("T_STEPS");
  CHECK(outcome(record) == "ok ");
  CHECK(record.counters.at("begun_with") > 0);
  CHECK(record.interruptions == 1);
  CHECK(record.phases.at("fix") >= 0.2);  // both parts: 1000 times 200 microseconds at least
  CHECK(record.phases.at("fix_count") >= 0.2);
  CHECK_FALSE(fs::exists(job.tree().cell({"S", "small", "T_STEPS", 1}) / "checkpoint.bin"));
  plan::Selection redo;
  redo.redo = "*";
  job.run(redo);
  CHECK(job.record("T_STEPS").counters.at("begun_with") == 0);
}

TEST_CASE("records that cannot be trusted are set aside and computed again") {
  Job job(json{{"approaches", {"T_SAME"}}, {"runs", 2}});
  job.run();
  const CellId cell{"S", "small", "T_SAME", 1};
  const fs::path file = job.tree().record(cell);
  const std::string good = read_text(file);
  const auto edited = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  for (const std::string& bad :
       {good.substr(0, good.size() / 2), std::string(), edited("\"seed\"", "\"sead\""),
        edited("\"run\": 1", "\"run\": 2"), edited("\"schema\": 2", "\"schema\": 1"), std::string("[]")}) {
    write_atomically(file, bad);
    CHECK(job.tree().look(cell).damage);
    CHECK(job.todo() == std::vector<std::string>{"S/T_SAME/1"});
    CHECK(job.run().done == 1);
    CHECK_FALSE(job.tree().look(cell).damage);
    CHECK(read_text(file.parent_path() / "record.damaged") == bad);
  }
  fs::copy_file(job.tree().record({"S", "small", "T_SAME", 2}), file, fs::copy_options::overwrite_existing);
  CHECK(job.todo() == std::vector<std::string>{"S/T_SAME/1"});  // another cell's
}

TEST_CASE("a fix by another version of its approach is kept, its cheaper stages are not") {
  Job job(json{{"approaches", {"T_SAME"}}});
  job.run();
  const CellId cell{"S", "small", "T_SAME", 1};
  const fs::path fix = job.tree().cell(cell) / "fix.json";
  const std::string before = read_text(fix);
  job.version = 2;
  CHECK(job.todo().empty());
  CHECK(job.state(cell) == CellState::stale);
  job.change({{"corrupted_below", 0.4}});
  CHECK(job.run().done == 1);
  CHECK(read_text(fix) == before);
  CHECK(job.state(cell) == CellState::stale);
  plan::Selection redo;
  redo.redo = "*";
  CHECK(job.run(redo).done == 1);
  CHECK(read_text(fix) != before);
  CHECK(job.state(cell) == CellState::finished);
}

TEST_CASE("what is finished is not repeated, unless asked for or a budget grew") {
  Job job(json{{"approaches", {"T_SAME", "T_THROWS", {{"key", "T_SLOW"}, {"budget", {{"seconds", 0.05}}}}}},
               {"runs", 2}});
  CHECK(job.todo().size() == 6);
  CHECK(job.run({.only = "S/T_SAME/*", .redo = {}, .retry = {}, .shard = {}}).done == 2);
  CHECK_FALSE(job.has_record("T_SLOW"));
  CHECK(job.run().done == 4);
  CHECK(job.run().done == 0);
  CHECK(job.run().failed);  // still
  const auto asking = [](const std::string& redo, const std::string& retry) {
    plan::Selection selection;
    if (!redo.empty()) selection.redo = redo;
    if (!retry.empty()) selection.retry = {retry};
    return selection;
  };
  CHECK(job.todo(asking("S/T_SAME/1", "")) == std::vector<std::string>{"S/T_SAME/1"});
  CHECK(job.todo(asking("", "crashed")) == std::vector<std::string>{"S/T_THROWS/1", "S/T_THROWS/2"});
  CHECK(job.todo(asking("", "timeout")) == std::vector<std::string>{"S/T_SLOW/1", "S/T_SLOW/2"});
  CHECK(job.todo(asking("", "out_of_memory")).empty());
  const std::vector<std::string> slow = {"S/T_SLOW/1", "S/T_SLOW/2"};
  const auto budget = [&](double seconds) {
    job.change(
        {{"approaches", {"T_SAME", "T_THROWS", {{"key", "T_SLOW"}, {"budget", {{"seconds", seconds}}}}}}});
    return job.todo();
  };
  CHECK(budget(0.04).empty());  // a smaller budget gives no other answer
  CHECK(budget(0.06) == slow);
  job.change({{"seed", 43}});
  CHECK(job.todo().size() == 6);
}

TEST_CASE("runs have seeds of their own, and the same ones again") {
  Job first(json{{"approaches", {"T_SAME"}}, {"runs", 3}});
  Job second(json{{"approaches", {"T_NOTHING", "T_SAME"}}, {"runs", 2}});
  first.run();
  second.run();
  std::set<int64_t> seeds;
  for (int64_t run = 1; run <= 3; ++run) seeds.insert(first.record("T_SAME", run).counters.at("seed"));
  CHECK(seeds.size() == 3);
  for (int64_t run = 1; run <= 2; ++run) {
    CHECK(first.record("T_SAME", run).counters.at("seed") ==
          second.record("T_SAME", run).counters.at("seed"));
  }
}

TEST_CASE("the plan is sorted, and a cell's identity holds what decides its result and no more") {
  Job job(json{{"approaches", {"T_SAME", "NONE"}}, {"runs", 2}});
  std::vector<std::string> ids;
  std::set<std::string> digests;
  for (const plan::PlanEntry& entry : job.plan()) {
    ids.push_back(entry.planned.cell.text());
    digests.insert(entry.planned.digest);
  }
  CHECK(ids == std::vector<std::string>{"S/NONE/1", "S/NONE/2", "S/T_SAME/1", "S/T_SAME/2"});
  CHECK(digests.size() == 4);
  const auto digest = [&] { return job.plan().front().planned.digest; };
  const std::string before = digest();
  for (const json& same : {json{{"name", "other"}}, json{{"budget", {{"seconds", 100}}}},
                           json{{"keep", "none"}}, json{{"runs", 5}}, json{{"approaches", {"NONE"}}}}) {
    INFO(same);
    job.change(same);
    CHECK(digest() == before);
  }
  for (const json& other : {json{{"seed", 1}}, json{{"corrupted_below", 0.4}}, json{{"batch", 100}}}) {
    INFO(other);
    const std::string last = digest();
    job.change(other);
    CHECK(digest() != last);
  }
  CHECK(job.plan("cuda").front().planned.digest != digest());
}

TEST_CASE("kept models are as many as the configuration says") {
  for (const auto& [keep, count] : {std::pair{"all", 3}, {"first", 1}, {"none", 0}}) {
    Job job(json{{"approaches", {"T_SAME"}}, {"runs", 3}, {"keep", keep}});
    job.run();
    int found = 0;
    for (int64_t run = 1; run <= 3; ++run) {
      found += fs::exists(job.tree().cell({"S", "small", "T_SAME", run}) / "fixed.pt");
    }
    INFO(keep);
    CHECK(found == count);
  }
}

TEST_CASE("epsilon zero attacks nothing: every attacked image stays right") {
  Job job(json{{"approaches", {"T_SAME", "T_LIAR"}}});
  json subject = {{"name", "S"}, {"model", model_file().string()}, {"data", data_file().string()}};
  subject["attack"] = {{"epsilon", 0}, {"sample", "all"}};
  job.change({{"subjects", {subject}}});
  job.run();
  for (const char* approach : {"T_SAME", "T_LIAR"}) {
    for (const MetricRecord& metric : job.record(approach).metrics) {
      if (metric.name != "ASR" && metric.name != "ASR_ORIGINAL" && metric.name != "ASR_MARGIN") continue;
      INFO(approach << " " << metric.name);
      REQUIRE(metric.value);
      CHECK(*metric.value == 0);
    }
  }
}
