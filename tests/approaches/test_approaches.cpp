#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "approaches/train/augment.hpp"
#include "approaches/train/trainer.hpp"
#include "harness/approach/approach.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::changed_values;
using testing::MemorySlot;
using testing::Outcome;
using testing::run;
using testing::setup_for;
using testing::tiny_data;
using testing::tiny_network;

// Whether the function aborts, found out in a child.
template <typename Function>
bool aborts(const Function& function) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(1);
    function();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

std::optional<Refusal> adapt(const std::string& key, const std::string& shadow = "",
                             std::optional<int64_t> faults = std::nullopt) {
  const FixContext::Setup setup = setup_for(key);
  return find_approach(key)->adapt({.network = &tiny_network(),
                                    .data = &tiny_data(),
                                    .hyperparameters = setup.hyperparameters,
                                    .shadow = shadow,
                                    .repair_faults = faults});
}

TEST_CASE("registry") {
  const Catalog catalog = approach_catalog();
  for (const std::string key : {"AR", "CT", "NONE", "RAND"}) {
    REQUIRE(find_approach(key) != nullptr);
    REQUIRE(find(catalog, key) != nullptr);
  }
  REQUIRE(std::is_sorted(catalog.begin(), catalog.end(),
                         [](const ApproachInfo& a, const ApproachInfo& b) { return a.key < b.key; }));
  REQUIRE(find_approach("NOPE") == nullptr);
  for (const ApproachInfo& info : catalog) {
    REQUIRE_FALSE(info.name.empty());
    for (const HyperparameterSpec& spec : info.hyperparameters) {
      REQUIRE_FALSE(spec.meaning.empty());
      REQUIRE_FALSE(spec.source.empty());
    }
  }
  const Approach none = *find_approach("NONE");
  REQUIRE(aborts([&] { register_approach(none); }));  // the key is taken
  Approach spy = none;
  spy.info.key = "SPY";
  spy.info.uses = {"test"};
  REQUIRE(aborts([&] { register_approach(spy); }));
}

TEST_CASE("an approach gets the splits it declared and no other") {
  const FixContext context(setup_for("AR"));
  REQUIRE(context.split("repair").size() == 120);
  REQUIRE(aborts([&] { context.split("train"); }));
  REQUIRE(aborts([&] { context.has_split("validation"); }));
  REQUIRE(aborts([&] { context.split("test"); }));
  REQUIRE(context.seed("a") != context.seed("b"));
  REQUIRE(context.stream("a").bits() == FixContext(setup_for("AR")).stream("a").bits());
}

TEST_CASE("NONE returns the original") {
  const Outcome outcome = run(setup_for("NONE"));
  REQUIRE(changed_values(tiny_network(), *outcome.result.network).empty());
  REQUIRE_FALSE(outcome.result.touched.everything);
  REQUIRE(outcome.result.touched.weights.empty());
}

TEST_CASE("AR improves its fitness and changes nothing but the front") {
  for (const std::string update : {"asynchronous", "generational"}) {
    for (const std::string front : {"reference", "per_sample"}) {
      const Outcome outcome =
          run(setup_for("AR", {{"negatives", "all"}, {"update", update}, {"conv_front", front}}));
      REQUIRE(outcome.result.network.has_value());
      REQUIRE(outcome.log.scalars.at("best_fitness") > outcome.log.scalars.at("original_fitness"));
      REQUIRE(outcome.log.scalars.at("negatives") == 20);
      REQUIRE(outcome.log.scalars.at("positives") == 100);
      REQUIRE(outcome.log.scalars.at("negatives_fixed") > 0);
      REQUIRE(outcome.log.counters.at("evaluations") == 100 * (1 + outcome.log.counters.at("generations")));
      REQUIRE(outcome.log.phases.count("localise") + outcome.log.phases.count("search") == 2);
      size_t declared = 0;
      for (const auto& [name, indices] : outcome.result.touched.weights) declared += indices.size();
      REQUIRE(static_cast<double>(declared) == outcome.log.scalars.at("front_size"));
      const auto changed = changed_values(tiny_network(), *outcome.result.network);
      REQUIRE_FALSE(changed.empty());
      for (const auto& [name, index] : changed) {
        const std::vector<int64_t>& indices = outcome.result.touched.weights.at(name);
        REQUIRE(std::count(indices.begin(), indices.end(), index) == 1);
      }
    }
  }
}

TEST_CASE("AR is a function of its seed, and of the localisation's choice") {
  const auto digest = [](uint64_t seed, const nlohmann::json& parameters) {
    FixContext::Setup setup = setup_for("AR", parameters);
    setup.seed = seed;
    return run(std::move(setup)).result.network->digest();
  };
  const nlohmann::json all = {{"negatives", "all"}, {"keep_original", false}};
  REQUIRE(digest(1, all) == digest(1, all));
  REQUIRE(digest(1, all) != digest(2, all));
  nlohmann::json softmax = all;
  softmax["compat_softmax"] = true;
  REQUIRE(digest(1, all) != digest(1, softmax));
}

TEST_CASE("AR keeps the original when nothing is better") {
  // Without generations, and with faults that count for nothing, no random first candidate beats the
  // original.
  const nlohmann::json hopeless = {{"negatives", "all"}, {"generations", 0}, {"alpha", 0}, {"population", 4}};
  const Outcome kept = run(setup_for("AR", hopeless));
  REQUIRE(kept.result.note == "returned the original: no candidate was better");
  REQUIRE(changed_values(tiny_network(), *kept.result.network).empty());
  REQUIRE(kept.result.touched.weights.empty());
  nlohmann::json stubborn = hopeless;
  stubborn["keep_original"] = false;
  const Outcome changed = run(setup_for("AR", stubborn));
  REQUIRE(changed.result.note.empty());
  REQUIRE_FALSE(changed_values(tiny_network(), *changed.result.network).empty());
}

TEST_CASE("AR says why it has no fix") {
  const Outcome none = run(setup_for("AR", {{"negatives", "pair"}, {"pair_rank", 99}}));
  REQUIRE_FALSE(none.result.network.has_value());
  REQUIRE(none.result.failure.code == "no_fix");
  FixContext::Setup setup = setup_for("AR");
  setup.stop = [] { return true; };
  REQUIRE(run(std::move(setup)).result.failure.code == "timeout");
  REQUIRE_FALSE(adapt("AR", "", 3).has_value());
  REQUIRE(adapt("AR", "", 0)->code == "no_faults");
}

// Runs `key`, stopping it at poll number `polls`, then goes on from its checkpoint to the end.
Outcome interrupted(const std::string& key, const nlohmann::json& parameters, int64_t polls,
                    const std::string& shadow = "") {
  MemorySlot memory;
  FixContext::Setup first = setup_for(key, parameters, shadow);
  first.checkpoint = memory.slot();
  first.stop = [polls]() mutable { return polls-- == 0; };
  const Outcome part = run(std::move(first));
  REQUIRE(part.result.note.find("stopped after") == 0);
  REQUIRE(memory.saves >= 1);
  FixContext::Setup second = setup_for(key, parameters, shadow);
  second.checkpoint = memory.slot();
  return run(std::move(second));
}

TEST_CASE("interrupted fixes go on bit for bit") {
  const nlohmann::json search = {{"negatives", "all"}, {"generations", 12}};
  const nlohmann::json steps = {{"steps", 30}};
  struct Row {
    std::string key;
    nlohmann::json parameters;
    int64_t polls;
    std::string shadow;
  };
  for (const Row& row :
       {Row{"AR", search, 250, ""}, Row{"RAND", search, 555, "AR"}, Row{"CT", steps, 13, ""}}) {
    INFO(row.key);
    const Outcome whole = run(setup_for(row.key, row.parameters, row.shadow));
    const Outcome parts = interrupted(row.key, row.parameters, row.polls, row.shadow);
    REQUIRE(changed_values(*whole.result.network, *parts.result.network).empty());
    REQUIRE(whole.log.counters == parts.log.counters);
    REQUIRE(whole.log.series == parts.log.series);
    REQUIRE(whole.log.scalars == parts.log.scalars);
  }
}

TEST_CASE("RAND searches as many weights as the approach it imitates, others") {
  const nlohmann::json parameters = {{"negatives", "all"}, {"keep_original", false}};
  const Outcome localised = run(setup_for("AR", parameters));
  const Outcome plain = run(setup_for("RAND", parameters));
  const Outcome shadow = run(setup_for("RAND", parameters, "AR"));
  REQUIRE(changed_values(*plain.result.network, *shadow.result.network).empty());
  REQUIRE(shadow.log.scalars.at("front_size") == localised.log.scalars.at("front_size"));
  REQUIRE(shadow.result.touched.weights != localised.result.touched.weights);
  REQUIRE_FALSE(adapt("RAND", "AR", 3).has_value());
  REQUIRE(adapt("RAND", "AR", 0)->code == "no_faults");
  REQUIRE(adapt("RAND", "NONE")->code == "structure");
}

double training_loss(const Network& network) {
  const Split& split = tiny_data().split("train");
  return at::cross_entropy_loss(network.logits(split.inputs(0, split.size())), split.labels()).item<double>();
}

TEST_CASE("CT lowers the training loss with every recipe") {
  REQUIRE_FALSE(adapt("CT").has_value());
  REQUIRE(adapt("CT", "NONE")->code == "structure");
  for (const std::string optimizer : {"adam", "sgd"}) {
    for (const std::string augmentation : {"none", "flip", "crop_flip"}) {
      FixContext::Setup setup = setup_for("CT", {{"steps", 120}});
      setup.training = TrainingConfig{};
      setup.training->optimizer = optimizer;
      setup.training->momentum = 0.9;
      setup.training->learning_rate = 3e-3;
      setup.training->batch = 32;
      setup.training->augmentation = augmentation;
      const Outcome outcome = run(std::move(setup));
      REQUIRE(outcome.result.touched.everything);
      REQUIRE(outcome.log.counters.at("optimiser_steps") == 120);
      REQUIRE(outcome.log.series.at("training_loss").size() == 3);
      if (augmentation == "none")
        REQUIRE(training_loss(*outcome.result.network) < training_loss(tiny_network()));
      for (const Parameter& parameter : outcome.result.network->parameters()) {
        REQUIRE_FALSE(parameter.value.requires_grad());
      }
    }
  }
}

TEST_CASE("training with sgd and momentum is resumed bit for bit") {
  TrainingConfig recipe;
  recipe.optimizer = "sgd";
  recipe.momentum = 0.9;
  recipe.batch = 20;
  recipe.augmentation = "crop_flip";
  Network whole = tiny_network().fork(), part = tiny_network().fork();
  const Split& split = tiny_data().split("train");
  {
    train::Trainer trainer(whole, split, recipe, 4);
    REQUIRE(trainer.steps_per_epoch() == 4);
    for (int step = 0; step < 14; ++step) trainer.step();
  }
  CheckpointState state;
  {
    train::Trainer trainer(part, split, recipe, 4);
    for (int step = 0; step < 6; ++step) trainer.step();
    state = trainer.state();
  }
  Network rest = tiny_network().fork();
  {
    train::Trainer trainer(rest, split, recipe, 4, state);
    REQUIRE(trainer.steps() == 6);
    while (trainer.steps() < 14) trainer.step();
  }
  REQUIRE(changed_values(whole, rest).empty());
  REQUIRE_FALSE(changed_values(whole, part).empty());
}

TEST_CASE("augmentation moves and mirrors, and nothing else") {
  RandomStream stream(1);
  const at::Tensor x = at::arange(2 * 3 * 5 * 5, at::kFloat).view({2, 3, 5, 5}) + 1;
  REQUIRE(train::augmented(x, "none", stream).equal(x));
  int64_t mirrored = 0, shifted = 0;
  for (int round = 0; round < 40; ++round) {
    const at::Tensor flipped = train::augmented(x, "flip", stream);
    for (int64_t n = 0; n < 2; ++n) {
      const bool mirror = flipped[n].equal(x[n].flip(2));
      REQUIRE((mirror || flipped[n].equal(x[n])));
      mirrored += mirror;
    }
    const at::Tensor moved = train::augmented(x, "crop_flip", stream);
    shifted += !moved.equal(x);
    for (int64_t n = 0; n < 2; ++n) {
      bool found = false;
      for (const bool mirror : {false, true}) {
        const at::Tensor padded = at::constant_pad_nd(x[n], {4, 4, 4, 4});
        for (int64_t top = 0; top <= 8; ++top) {
          for (int64_t left = 0; left <= 8; ++left) {
            const at::Tensor window = padded.slice(1, top, top + 5).slice(2, left, left + 5);
            found |= moved[n].equal(mirror ? window.flip(2) : window);
          }
        }
      }
      REQUIRE(found);
    }
  }
  REQUIRE((mirrored > 20 && mirrored < 60));
  REQUIRE(shifted > 30);
}

}  // namespace
}  // namespace harness
