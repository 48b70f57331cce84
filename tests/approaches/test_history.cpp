// NR and the history of the training: whose it is, and what the gradient of the model's outputs is worth.
#include "tests/approaches/branched.hpp"
#include "tests/approaches/entries.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::branched_network;
using testing::history_of;
using testing::Outcome;
using testing::run;
using testing::setup_for;
using testing::tiny_data;
using testing::tiny_network;

using ParameterSet = std::map<std::string, at::Tensor>;

// The history as it is with `change` made, and what adapt() says of it.
std::optional<Refusal> refusal(const std::function<void(FixContext::Setup&)>& change,
                               const std::string& key = "NR") {
  FixContext::Setup setup = setup_for(key, nlohmann::json::object(), key == "RAND" ? "NR" : "");
  setup.history = history_of(tiny_network());
  setup.network = &tiny_network();
  setup.repair_faults = 20;
  setup.history_names = {"epoch_1.pt", "epoch_2.pt"};
  change(setup);
  return find_approach(key)->adapt(setup);
}

TEST_CASE("NR is not adaptable without the history of this very model", "[neurecover]") {
  for (const std::string key : {"NR", "RAND"}) {
    REQUIRE_FALSE(refusal([](FixContext::Setup&) {}, key).has_value());
    const auto mismatch = [&](const std::function<void(FixContext::Setup&)>& change) {
      const auto found = refusal(change, key);
      REQUIRE(found.has_value());
      REQUIRE(found->code == "history_mismatch");
      return found->text;
    };
    REQUIRE(mismatch([](FixContext::Setup& setup) { std::swap(setup.history[0], setup.history[1]); }) ==
            "epoch_2.pt, checkpoint 2 of 2, is not the model to be fixed: conv1.weight differs");
    REQUIRE(mismatch([](FixContext::Setup& setup) { setup.history[1].erase("fc2.bias"); }) ==
            "epoch_2.pt, checkpoint 2 of 2, is not the model to be fixed: fc2.bias differs");
    REQUIRE(mismatch([](FixContext::Setup& setup) { setup.history[0].erase("fc1.weight"); }) ==
            "epoch_1.pt, checkpoint 1 of 2, has no fc1.weight of the model's shape");
    REQUIRE(mismatch([](FixContext::Setup& setup) {
              setup.history[0]["fc1.weight"] = at::zeros({3, 2});
              setup.history_names.clear();
            }) == "checkpoint 1 of 2, has no fc1.weight of the model's shape");
    // Earlier checkpoints are not looked at.
    REQUIRE_FALSE(
        refusal([](FixContext::Setup& setup) { setup.history.insert(setup.history.begin(), ParameterSet{}); },
                key)
            .has_value());
  }
}

TEST_CASE("NR needs two checkpoints and a fault", "[neurecover]") {
  REQUIRE(refusal([](FixContext::Setup& setup) { setup.history.resize(1); })->code == "no_history");
  REQUIRE(refusal([](FixContext::Setup& setup) { setup.history.clear(); })->code == "no_history");
  REQUIRE(refusal([](FixContext::Setup& setup) { setup.repair_faults = 0; })->code == "no_faults");
}

TEST_CASE("NR says where compat has no effect", "[neurecover]") {
  const Network& logits = branched_network();
  REQUIRE_FALSE(logits.ends_in_softmax());
  const auto outcome = [](const Network& network, const std::string& backward) {
    FixContext::Setup setup = setup_for(
        "NR", {{"reduction_rate", 4.5}, {"backward", backward}, {"iterations", 1}, {"keep_original", false}});
    setup.history = history_of(network);
    return run(std::move(setup), network);
  };
  const std::string text = "backward compat is logit_sum here, as the model does not end in a softmax";
  const Outcome compat = outcome(logits, "compat"), sum = outcome(logits, "logit_sum");
  REQUIRE(compat.result.network.has_value());
  REQUIRE(compat.result.network->digest() == sum.result.network->digest());
  REQUIRE(compat.result.note.find(text) != std::string::npos);
  REQUIRE(sum.result.note.find(text) == std::string::npos);
  REQUIRE(outcome(tiny_network(), "compat").result.note.find(text) == std::string::npos);
}

}  // namespace
}  // namespace harness
