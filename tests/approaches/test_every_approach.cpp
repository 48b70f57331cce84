// Properties of every approach there is: what is registered tomorrow is held to them, too.
#include <algorithm>
#include <fstream>

#include "approaches/approach.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/approaches/headed.hpp"
#include "tests/approaches/heads.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::branched_network;
using testing::head_network;
using testing::headed_network;
using testing::Outcome;
using testing::require_nothing_lost;
using testing::run;
using testing::setup_for;
using testing::tiny_data;
using testing::tiny_network;

// Little work each. Who is not named has the defaults.
const std::map<std::string, nlohmann::json> kSmall = {
    {"3M", {{"search", "mcts"}, {"n_points", 2}, {"depth", 3}, {"proposals", 24}, {"margin", 0.5}}},
    {"AR", {{"negatives", "all"}, {"population", 12}, {"generations", 6}}},
    {"CARE", {{"positives", 40}, {"negatives", 15}, {"particles", 8}, {"iterations", 8}}},
    {"CT", {{"steps", 12}}},
    {"DTR", {{"types", 3}, {"least_negatives", 2}, {"particles", 8}, {"iterations", 6}}},
    {"GM", {{"sigma", 0.5}, {"rho", 0.05}, {"population", 10}, {"generations", 5}}},
    {"IN",
     {{"probe_epochs", 2},
      {"routing_samples", 6},
      {"routing_steps", 4},
      {"goal_fault_rate", 0},
      {"epochs", 2},
      {"learning_rate", 0.05},
      {"blocks", 2}}},
    {"IR", {{"max_iters", 40}, {"learning_rate", 1e-3}}},
    {"NNR", {{"hard_per_class", 1}}},
    {"NR", {{"reduction_rate", 4.5}, {"positives", 30}, {"particles", 10}, {"iterations", 8}}},
    {"VERE", {{"learning_rate", 0.2}, {"interval_factor", 2}, {"rounds", 3}, {"epochs", 4}}},
};

// The model before a made-up last epoch, and the model.
std::vector<std::map<std::string, at::Tensor>> history_of(const Network& network) {
  RandomStream stream(17);
  std::vector<std::map<std::string, at::Tensor>> history(2);
  for (const Parameter& parameter : network.parameters()) {
    history[0][parameter.name] = history[1][parameter.name] = parameter.value.clone();
    if (!parameter.value.is_floating_point()) continue;
    const double size = parameter.name.starts_with("fc") ? 0.25 : 0.01;
    std::vector<float> moves(static_cast<size_t>(parameter.value.numel()));
    for (float& move : moves) move = static_cast<float>(size * stream.normal());
    history[0][parameter.name] = parameter.value + at::tensor(moves).view(parameter.value.sizes());
  }
  return history;
}

// An approach, and the one it imitates where it is a control.
struct Entry {
  std::string key, shadow;
  std::string text() const { return shadow.empty() ? key : key + ":" + shadow; }
  FixContext::Setup setup(const Network& network) const {
    const auto small = kSmall.find(shadow.empty() ? key : shadow);
    FixContext::Setup made =
        setup_for(key, small == kSmall.end() ? nlohmann::json::object() : small->second, shadow);
    made.history = history_of(network);
    return made;
  }
  std::optional<Refusal> refusal(const Network& network) const {
    const FixContext::Setup made = setup(network);
    return find_approach(key)->adapt({.network = network,
                                      .data = tiny_data(),
                                      .parameters = made.parameters,
                                      .shadow = shadow,
                                      .training = made.training,
                                      .history_size = made.history.size(),
                                      .repair_faults = 20,
                                      .repair_correct = 100,
                                      .repair_error_types = std::vector<int64_t>(8, 6)});
  }
};

std::vector<Entry> every_entry() {
  std::vector<Entry> entries;
  for (const ApproachInfo& info : approach_catalog()) {
    if (!info.shadows || info.alone) entries.push_back({info.key, ""});
    for (const std::string& other : info.imitates) entries.push_back({info.key, other});
  }
  return entries;
}

// The first network of the fixtures that it can be applied to.
const Network* network_for(const Entry& entry) {
  for (const Network* network : {&tiny_network(), &headed_network(), &branched_network()}) {
    if (!entry.refusal(*network)) return network;
  }
  return nullptr;
}

TEST_CASE("a fix that is stopped and resumed loses nothing, whichever it is") {
  for (const Entry& entry : every_entry()) {
    INFO(entry.text());
    const Network* network = network_for(entry);
    REQUIRE(network != nullptr);
    // controls stop where the approaches do that they imitate
    const int64_t polls =
        require_nothing_lost([&] { return entry.setup(*network); }, *network, entry.shadow.empty() ? 4 : 1);
    if (entry.key != "NONE") CHECK(polls > 2);
  }
}

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
  int64_t asked = 0, loads = 0;
  FixContext::Setup setup = setup_for("AR");
  setup.stop = [&asked] { return ++asked > 0; };
  setup.checkpoint.load = [&loads] {
    ++loads;
    return CheckpointState{{"x", at::ones({1})}};
  };
  const FixContext resumed(std::move(setup));
  REQUIRE(loads == 1);
  REQUIRE(resumed.resumed());
  ask(resumed.preparing());
  ask(resumed.passes().poll);
  REQUIRE(asked == 0);
  REQUIRE_THROWS_AS(ask(resumed.poll()), FixStopped);
  REQUIRE(resumed.was_stopped());
  REQUIRE(resumed.load_checkpoint()->count("x") == 1);
  REQUIRE(loads == 1);
  FixContext::Setup fresh = setup_for("AR");
  fresh.stop = [] { return true; };
  fresh.checkpoint.load = [] { return std::nullopt; };
  const FixContext first(std::move(fresh));
  REQUIRE_FALSE(first.resumed());
  REQUIRE_FALSE(first.was_stopped());
  REQUIRE_THROWS_AS(ask(first.preparing()), FixStopped);
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
        nlohmann::json parameters = kSmall.at(key);
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
