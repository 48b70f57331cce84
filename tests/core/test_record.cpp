#include <limits>

#include "harness/core/error.hpp"
#include "harness/store/record.hpp"
#include "harness/store/results.hpp"
#include "tests/support.hpp"

using namespace harness;
using nlohmann::json;

namespace {

Record full_record() {
  Record record;
  record.cell = {"MNIST", "LeNet5", "RAND:AR", 2};
  record.key = "RAND";
  record.name = "Random weights, search of AR";
  record.in_study = true;
  record.level = Level::neuron;
  record.seed = std::numeric_limits<uint64_t>::max();
  record.status = Status::corrupted;
  record.reason = "accuracy: 12 % of the original's";
  record.metrics = {{"RR", "percent", 100.0 / 3, ""}, {"ACC", "percent", std::nullopt, "no_attack: none"}};
  record.phases = {{"fix", 0.1}, {"load", 1e-9}};
  record.counters = {{"evaluations", int64_t{1} << 60}};
  record.scalars = {{"best", -std::numeric_limits<double>::infinity()}, {"worst", 0.1 + 0.2}};
  record.series = {{"best", {1, std::numeric_limits<double>::infinity(), 1.0 / 3}}, {"empty", {}}};
  record.invariants = {{"identity", true, ""}, {"untouched", false, "conv1.weight differs"}};
  record.digest = "0123456789abcdef";
  record.limited = true;
  record.classes = 10;
  record.group_names = {"light", "dark"};
  record.device = "CPU, some model";
  record.threads = 8;
  record.concurrent_workers = 2;
  record.interruptions = 1;
  record.provenance = {{"libtorch", "2.13.0"}, {"threads", 2}};
  return record;
}

std::vector<std::string> places_of(const json& value) {
  std::vector<std::string> places;
  try {
    Record::from_json(value, "r.json");
  } catch (const UserError& error) {
    for (const Problem& problem : error.problems()) {
      CHECK(problem.file == "r.json");
      places.push_back(problem.place);
    }
  }
  return places;
}

}  // namespace

TEST_CASE("a record survives the way through its file") {
  const Record record = full_record();
  const std::string text = record.to_json().dump();
  const Record again = Record::from_json(json::parse(text), "r.json");
  CHECK(again.to_json().dump() == text);
  CHECK(again.cell.text() == "MNIST/RAND:AR/2");
  CHECK(again.seed == record.seed);
  CHECK(again.status == Status::corrupted);
  CHECK(again.level == Level::neuron);
  REQUIRE(again.metrics.size() == 2);
  CHECK(again.metrics[0].name == "RR");  // registry order, not alphabetical
  CHECK(*again.metrics[0].value == 100.0 / 3);
  CHECK_FALSE(again.metrics[1].value);
  CHECK(again.scalars == record.scalars);
  CHECK(again.series == record.series);
  CHECK(again.counters == record.counters);
  CHECK(again.group_names == record.group_names);
  CHECK(again.provenance == record.provenance);
  CHECK(again.mistrusted());
  const Record empty = Record::from_json(Record().to_json(), "r.json");
  CHECK(empty.to_json() == Record().to_json());
  CHECK_FALSE(empty.mistrusted());
}

TEST_CASE("a record's top level is the contract's") {
  const json value = full_record().to_json();
  for (const char* key : {"schema", "cell", "status", "reason", "metrics", "phases", "counters", "scalars",
                          "invariants", "provenance"}) {
    CHECK(value.contains(key));
  }
  CHECK(value["status"] == "CORRUPTED");
  CHECK(value["cell"]["approach"] == "RAND:AR");
}

TEST_CASE("every value of another type is refused with its place") {
  const json good = full_record().to_json();
  REQUIRE(places_of(good).empty());
  const json flat = good.flatten();
  int tried = 0;
  for (const auto& [pointer, value] : flat.items()) {
    if (pointer.starts_with("/provenance/")) continue;  // free
    json bad = good;
    // a list is never right where one value stands
    bad[json::json_pointer(pointer)] = json::array({json::array()});
    const auto places = places_of(bad);
    INFO(pointer);
    REQUIRE(places.size() >= 1);
    CHECK(places[0].starts_with(pointer));
    ++tried;
  }
  CHECK(tried > 35);
}

TEST_CASE("missing and unknown keys of a record are refused") {
  const json good = full_record().to_json();
  for (const auto& [key, value] : good.items()) {
    json bad = good;
    bad.erase(key);
    INFO(key);
    CHECK(places_of(bad) == std::vector<std::string>{"/"});
  }
  json bad = good;
  bad["cell"]["colour"] = "red";
  bad["status"] = "OK";
  bad["metrics"][1].erase("reason");
  bad["counters"]["evaluations"] = 1.5;
  CHECK(places_of(bad) ==
        std::vector<std::string>{"/cell/colour", "/status", "/metrics/1", "/counters/evaluations"});
  bad = good;
  bad["schema"] = kRecordSchema + 1;
  bad["reason"] = 3;  // of another schema nothing else is judged
  CHECK(places_of(bad) == std::vector<std::string>{"/schema"});
  for (const json& value : {json(), json(3), json::array(), json("text")}) {
    CHECK(places_of(value) == std::vector<std::string>{"/"});
  }
}

TEST_CASE("a record from before threads were recorded is read, their number unknown") {
  json old = full_record().to_json();
  REQUIRE(old["machine"].erase("threads") == 1);
  CHECK(Record::from_json(old, "r.json").threads == 0);
  CHECK(Record::from_json(full_record().to_json(), "r.json").threads == 8);
}

TEST_CASE("a cell's folder has no colon") {
  CHECK(CellId{"MNIST", "LeNet5", "published:AP", 3}.folder() ==
        std::filesystem::path("MNIST/published.AP/3"));
  CHECK(std::string(to_text(Status::ok)) == "ok");
  CHECK(std::string(to_text(Status::unadaptable)) == "UNADAPTABLE");
  CHECK(std::string(to_text(Status::failure)) == "FAILURE");
}

TEST_CASE("what differs between a record and the plan is told in words") {
  using nlohmann::json;
  const json limited = {
      {"limit", {{"test", 50}}}, {"attack", nullptr}, {"files", json::array()}, {"runs", 3}};
  const json whole = {
      {"limit", json::object()}, {"attack", {{"epsilon", 0.1}}}, {"files", {"a"}}, {"runs", 3}};
  CHECK(differences(limited, whole) == std::vector<std::string>{"attack/epsilon: none, now 0.1",
                                                                "files/0: none, now \"a\"",
                                                                "--limit test: 50, now none"});
  for (const json& one : {limited, whole, json::object()}) {
    CHECK(differences(one, one).empty());
    for (const json& other : {limited, whole, json::object()}) {
      for (const std::string& text : differences(one, other)) {
        CHECK(text.find("null") == std::string::npos);
        CHECK(text.find("absent") == std::string::npos);
      }
    }
  }
}
