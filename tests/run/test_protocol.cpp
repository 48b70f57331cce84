#include <limits>
#include <set>

#include "harness/pool/protocol.hpp"
#include "tests/support.hpp"

using namespace harness;
using Catch::Matchers::Contains;
using nlohmann::json;

namespace {

pool::CellEntry some_entry(bool published) {
  pool::CellEntry entry;
  entry.planned.cell = {"S", "Net", published ? "published:AP" : "AR", 2};
  entry.planned.key = "AR";
  entry.planned.name = "A name, \"quoted\"\nand broken";
  entry.planned.level = Level::neuron;
  entry.planned.basis = Basis::inferred_identity;
  entry.planned.in_study = true;
  entry.planned.seed = std::numeric_limits<uint64_t>::max();
  entry.planned.seal();
  entry.subject = 3;
  if (!published) entry.approach = 1;
  entry.published = published ? "models/ä.pt" : "";
  return entry;
}

const std::vector<Problem> kProblems = {{"f.json", "/a", "text \"x\"", "a number", "x y"}, {}};

const std::vector<pool::Request> kRequests = {
    pool::StartWorker{{{"runs", 3}, {"rate", 0.1}}, {{"test", 20}}, "results/x", "cuda:0", 4, 2},
    pool::ProbeEntries{{some_entry(false), some_entry(true)}},
    pool::ComputeCell{some_entry(true), plan::Reuse::retry, "token", "another"},
    pool::CheckDevice{},
};
const std::vector<pool::Reply> kReplies = {
    pool::WorkerReady{"CPU, 4 cores"},
    pool::EntriesProbed{kProblems},
    pool::RequestRefused{kProblems},
    pool::RequestFailed{"why", true},
    pool::DeviceWorks{},
    pool::PartBegun{"fix", 0.1 + 0.2, true},
    pool::FixBegun{1234.5},
    pool::CellProgress{1.0 / 3, "generation 7"},
    pool::CellFinished{Status::unadaptable, "missing_split: none", true, 12.25},
    pool::CellLost{},
    pool::CellInterrupted{},
};

// Every alternative of the variant has an example, is read again as what it was, and has its own name.
template <typename Message, typename Read>
void check_round_trips(const std::vector<Message>& examples, Read read) {
  std::set<size_t> alternatives;
  std::set<std::string> names;
  for (const Message& message : examples) {
    const std::string line = pool::to_line(message);
    INFO(line);
    CHECK(line.find('\n') == std::string::npos);
    const Message again = read(line);
    CHECK(again.index() == message.index());
    CHECK(pool::to_line(again) == line);
    alternatives.insert(message.index());
    names.insert(json::parse(line).at("message").template get<std::string>());
  }
  CHECK(alternatives.size() == std::variant_size_v<Message>);
  CHECK(names.size() == std::variant_size_v<Message>);
}

// Lines that lack one field, have one of another type, or are cut short.
template <typename Message, typename Read>
void check_refusals(const std::vector<Message>& examples, Read read) {
  for (const Message& message : examples) {
    const std::string line = pool::to_line(message);
    const json object = json::parse(line);
    for (const auto& [key, value] : object.items()) {
      INFO(line << " without " << key);
      json fewer = object, other = object;
      fewer.erase(key);
      CHECK_THROWS_AS(read(fewer.dump()), pool::MalformedMessage);
      other[key] = value.is_string() ? json(7) : json("of another type");
      if (key != "configuration") CHECK_THROWS_AS(read(other.dump()), pool::MalformedMessage);
    }
    CHECK_THROWS_AS(read(line.substr(0, line.size() - 1)), pool::MalformedMessage);
  }
}

}  // namespace

TEST_CASE("every message between engine and worker survives the way", "[protocol]") {
  check_round_trips(kRequests, pool::read_request);
  check_round_trips(kReplies, pool::read_reply);
  const auto cell = std::get<pool::ComputeCell>(pool::read_request(pool::to_line(kRequests[2])));
  CHECK(cell.entry.planned.cell.text() == "S/published:AP/2");
  CHECK(cell.entry.planned.name == some_entry(true).planned.name);
  CHECK(cell.entry.planned.level == Level::neuron);
  CHECK(cell.entry.planned.seed == std::numeric_limits<uint64_t>::max());
  CHECK(cell.entry.planned.digest == some_entry(true).planned.digest);
  CHECK(cell.entry.subject == 3);
  CHECK_FALSE(cell.entry.approach);
  CHECK(cell.entry.published == "models/ä.pt");
  CHECK(cell.reuse == plan::Reuse::retry);
  const auto part = std::get<pool::PartBegun>(pool::read_reply(pool::to_line(kReplies[5])));
  CHECK(part.spent == 0.1 + 0.2);
  CHECK(part.keeps_own_budget);
  CHECK(std::get<pool::CellFinished>(pool::read_reply(pool::to_line(kReplies[8]))).status ==
        Status::unadaptable);
}

TEST_CASE("a line that is no message is refused, and the reason says why", "[protocol]") {
  check_refusals(kRequests, pool::read_request);
  check_refusals(kReplies, pool::read_reply);
  const auto refused = [](const std::string& line) -> std::string {
    try {
      pool::read_reply(line);
    } catch (const pool::MalformedMessage& error) {
      return error.what();
    }
    return "";
  };
  CHECK_THAT(refused("Segmentation fault"), Contains("no message between engine and worker") &&
                                                Contains("parse error") && Contains("Segmentation fault"));
  CHECK_THAT(refused("[1, 2]"), Contains("[1, 2]"));
  CHECK_THAT(refused(R"({"message": "bye"})"), Contains("no message has the name \"bye\""));
  CHECK_THAT(refused(pool::to_line(kRequests[0])), Contains("no message has the name \"start\""));
  CHECK_THAT(refused(R"({"message": "progress", "done": 0.5})"), Contains("key 'what' not found"));
  CHECK_THAT(refused(R"({"message": "finished", "status": "fine", "reason": "", "mistrusted": false,
                         "seconds": 1})"),
             Contains("no word that is known here: \"fine\""));
  CHECK(refused(std::string(5000, 'x')).size() < 500);
}

TEST_CASE("text of a reply that is no UTF-8 comes as U+FFFD", "[protocol]") {
  const pool::Reply reply =
      pool::read_reply(pool::to_line(pool::Reply(pool::RequestFailed{"bad \xff byte", false})));
  CHECK(std::get<pool::RequestFailed>(reply).why == "bad \xEF\xBF\xBD byte");
  CHECK_THROWS_AS(pool::to_line(pool::Request(pool::ComputeCell{{}, {}, "bad \xff byte", ""})),
                  json::type_error);
}

TEST_CASE("an entry of the plan comes back by its places in the same configuration", "[protocol]") {
  Config config;
  config.subjects.resize(2);
  config.approaches.resize(3);
  plan::PlanEntry entry;
  entry.planned = some_entry(false).planned;
  entry.subject = &config.subjects[1];
  entry.approach = &config.approaches[2];
  const plan::PlanEntry again = pool::plan_entry(config, pool::cell_entry(config, entry));
  CHECK(again.subject == entry.subject);
  CHECK(again.approach == entry.approach);
  CHECK(again.published.empty());
  entry.approach = nullptr;
  entry.published = "a.pt";
  const plan::PlanEntry published = pool::plan_entry(config, pool::cell_entry(config, entry));
  CHECK(published.approach == nullptr);
  CHECK(published.published == "a.pt");
  pool::CellEntry outside = pool::cell_entry(config, entry);
  outside.subject = 2;
  CHECK_THROWS_AS(pool::plan_entry(config, outside), std::out_of_range);
  outside = pool::cell_entry(config, entry);
  outside.approach = -1;
  CHECK_THROWS_AS(pool::plan_entry(config, outside), std::out_of_range);
}
