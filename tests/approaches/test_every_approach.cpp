// Properties of every approach there is: what is registered tomorrow is held to them, too.
#include <algorithm>
#include <fstream>

#include "harness/approach/approach.hpp"
#include "tests/approaches/entries.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/approaches/heads.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::Entry;
using testing::every_entry;
using testing::head_network;
using testing::little_work;
using testing::network_for;
using testing::Outcome;
using testing::run;
using testing::setup_for;
using testing::tiny_network;

TEST_CASE("what a network has behind its logits changes no fix") {
  const Network& bare = head_network("bare");
  for (const Entry& entry : every_entry()) {
    INFO(entry.text());
    const std::optional<Refusal> refusal = entry.refusal(bare);
    std::optional<Outcome> plain;
    if (!refusal) plain = run(entry.setup(bare), bare);
    for (const char* name : {"bare_softmax", "bare_log_softmax", "bare_sigmoid"}) {
      INFO(name);
      const Network& tailed = head_network(name);
      CHECK(entry.refusal(tailed).has_value() == refusal.has_value());
      if (!plain) continue;
      const Outcome outcome = run(entry.setup(tailed), tailed);
      for (const Parameter& parameter : plain->result.network->parameters()) {
        INFO(parameter.name);
        const ParameterId id = outcome.result.network->find_parameter(parameter.name);
        REQUIRE(id >= 0);
        CHECK(outcome.result.network->parameters()[static_cast<size_t>(id)].value.equal(parameter.value));
      }
    }
  }
}

TEST_CASE("a fix knows from its first moment whether it is a resumed one") {
  int64_t checked = 0, loads = 0;
  FixContext::Setup setup = setup_for("AR");
  setup.stop = [&checked] { return ++checked > 0; };
  setup.checkpoint.load = [&loads] {
    ++loads;
    return CheckpointState{{"x", at::ones({1})}};
  };
  const FixContext resumed(std::move(setup));
  REQUIRE(loads == 1);
  REQUIRE(resumed.resumed());
  resumed.preparation_stop().check();
  resumed.batching().stop.check();
  REQUIRE(checked == 0);
  REQUIRE_THROWS_AS(resumed.stop().check(), FixStopped);
  REQUIRE(resumed.stop().seen());
  REQUIRE(resumed.load_checkpoint()->count("x") == 1);
  REQUIRE(loads == 1);
  FixContext::Setup fresh = setup_for("AR");
  fresh.stop = [] { return true; };
  fresh.checkpoint.load = [] { return std::nullopt; };
  const FixContext first(std::move(fresh));
  REQUIRE_FALSE(first.resumed());
  REQUIRE_FALSE(first.stop().seen());
  REQUIRE_THROWS_AS(first.preparation_stop().check(), FixStopped);
}

std::string join(const std::vector<std::string>& keys) {
  std::string text;
  for (const std::string& key : keys) text += (text.empty() ? "" : ", ") + key;
  return text;
}

TEST_CASE("controls advertise exactly the approaches that they can imitate") {
  for (const ApproachInfo& info : approach_catalog()) {
    REQUIRE(info.shadows == !info.imitates.empty());
    if (!info.shadows) continue;
    for (const ApproachInfo& other : approach_catalog()) {
      if (other.shadows) continue;
      const Entry entry{info.key, other.key};
      INFO(entry.text());
      const bool advertised = std::ranges::count(info.imitates, other.key) == 1;
      REQUIRE((network_for(entry) != nullptr) == advertised);
      if (!advertised) REQUIRE(entry.refusal(tiny_network())->code == "structure");
    }
    std::ifstream readme("approaches/README.md");
    REQUIRE(readme.good());
    int lines = 0;
    for (std::string line; std::getline(readme, line);) {
      if (line.find(info.key + ":KEY |") == std::string::npos) continue;
      ++lines;
      INFO(line);
      REQUIRE(line.find("KEY is one of " + join(info.imitates) + " |") != std::string::npos);
    }
    REQUIRE(lines == 1);
  }
}

TEST_CASE("CT:KEY makes exactly as many steps as KEY, and trains as CT with that number does") {
  int early = 0;
  for (const ApproachInfo& info : approach_catalog()) {
    if (info.key != "CT") continue;
    for (const std::string& key : info.imitates) {
      // one that makes all its steps, and one that reaches its goal before
      for (const bool lively : {false, true}) {
        INFO(key << (lively ? ", lively" : ""));
        nlohmann::json parameters = little_work(key);
        if (lively) parameters["learning_rate"] = 0.01;
        if (lively && key == "IR") parameters.update({{"max_iters", 400}, {"max_specific", 4}});
        if (lively && key == "IN") parameters.update({{"goal_fault_rate", 1}, {"accuracy_slack", 1}});
        const Outcome imitated = run(setup_for(key, parameters));
        const int64_t steps = imitated.log.counters.at("optimiser_steps");
        REQUIRE(steps > 0);
        early += lively && key == "IR" && steps < 400;
        const Outcome control = run(setup_for("CT", parameters, key));
        REQUIRE(control.log.counters == std::map<std::string, int64_t>{{"optimiser_steps", steps}});
        REQUIRE(control.log.scalars.empty());
        REQUIRE(control.log.phases.count("count") + control.log.phases.count("train") == 2);
        REQUIRE(control.log.phases.size() == 2);
        const Outcome plain =
            run(setup_for("CT", {{"steps", steps}, {"learning_rate", parameters["learning_rate"]}}));
        REQUIRE(control.result.network->digest() == plain.result.network->digest());
        REQUIRE(control.log.series == plain.log.series);
      }
    }
  }
  REQUIRE(early == 1);
}

}  // namespace
}  // namespace harness
