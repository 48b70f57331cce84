// The repair of IN: values that are kept, running averages, the epoch that is returned, what it says.
#include <cmath>

#include "approaches/routing/block_repair.hpp"
#include "harness/model/graph.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness::test_inner_repair {  // apart: files are compiled together
namespace {

using testing::branched_network;
using testing::Outcome;
using testing::require_same_after_stops;
using testing::run;
using testing::setup_for;
using testing::tiny_data;
using testing::tiny_network;

nlohmann::json quick(const nlohmann::json& more = nlohmann::json::object()) {
  nlohmann::json parameters = {{"probe_epochs", 4},    {"routing_samples", 10}, {"routing_steps", 6},
                               {"goal_fault_rate", 0}, {"epochs", 6},           {"learning_rate", 0.2},
                               {"blocks", 2}};
  parameters.update(more);
  return parameters;
}

struct Sets {
  InputSet faulty{&tiny_data().split("repair"), {0, 6, 12, 30, 66, 72, 18}};
  InputSet clean{&tiny_data().split("validation"), {1, 2, 3, 4, 5}};
};

// All blocks of a network, with probes drawn from `seed`.
std::vector<routing::RepairedBlock> blocks_of(const Network& network, uint64_t seed) {
  std::vector<routing::RepairedBlock> repaired;
  for (const routing::ProbedBlock& block : routing::probed_blocks(network)) {
    const auto& shape = network.nodes()[static_cast<size_t>(block.output)].shape;
    const int64_t weights = network.parameters()[block.weight].value.numel();
    repaired.push_back({block, routing::Probe(block.probe_depth, shape, 4, seed, at::kCPU),
                        at::rand({weights}, at::detail::createCPUGenerator(2)) < 0.5});
  }
  std::reverse(repaired.begin(), repaired.end());  // as scores may order them
  return repaired;
}

bool is_average(const Parameter& parameter) {
  return parameter.name.find("running") != std::string::npos;
}

TEST_CASE("values that are kept change no weight, and averages to rounding", "[inner]") {
  for (const Network* original : {&tiny_network(), &branched_network()}) {
    for (const bool train_mode : {false, true}) {
      const Sets sets;
      std::vector<Network> networks;
      for (const std::optional<int64_t> limit : {std::optional<int64_t>(), std::optional<int64_t>(0)}) {
        networks.push_back(original->fork());
        routing::BlockRepair repair(
            networks.back(), blocks_of(*original, 3), sets.faulty, sets.clean,
            {.learning_rate = 0.05, .batch = 3, .train_mode = train_mode, .cache_limit = limit});
        for (int64_t pass = 0; pass < 12; ++pass) {
          const auto k = static_cast<size_t>(pass) % repair.blocks();
          REQUIRE((pass % 3 == 0 ? repair.train_on_probe(k, pass) : repair.train_on_output(k, pass)));
        }
      }
      for (size_t id = 0; id < networks[0].parameters().size(); ++id) {
        const Parameter &kept = networks[0].parameters()[id], &plain = networks[1].parameters()[id];
        INFO(kept.name << (train_mode ? ", train mode" : ""));
        if (is_average(kept)) {
          REQUIRE(at::allclose(kept.value, plain.value, 1e-5, 1e-6));
          REQUIRE(kept.value.equal(original->parameters()[id].value) == !train_mode);
        } else {
          REQUIRE(kept.value.equal(plain.value));
        }
      }
    }
  }
}

TEST_CASE("what is kept is what a pass would compute, as far as it stays the same", "[inner]") {
  const Network& original = branched_network();
  const Sets sets;
  const NodeId second = routing::probed_blocks(original)[0].layer;
  const std::vector<NodeId> norms = [&] {
    std::vector<NodeId> found;
    for (size_t id = 0; id < original.nodes().size(); ++id) {
      if (original.nodes()[id].kind == NodeKind::batch_norm) found.push_back(static_cast<NodeId>(id));
    }
    return found;
  }();
  REQUIRE((norms[0] < second && second < norms[1]));
  for (const bool averages_move : {false, true}) {
    routing::KeptValues kept({.network = original,
                              .moved = {second},
                              .training = false,
                              .averages_move = averages_move,
                              .inputs = 7});
    REQUIRE(kept.keeps());
    REQUIRE(kept.cut().first == (averages_move ? norms[0] : second));
    for (const auto& [id, value] : kept.known(sets.faulty, 1, 4))
      REQUIRE(value.equal(original.activations(sets.faulty.load(1, 4, at::kCPU), {id})[0]));
    REQUIRE(routing::accuracy(original, kept, sets.faulty, 3) == accuracy(original, sets.faulty, 3));
  }
  const routing::KeptValues scarce(
      {.network = original, .moved = {second}, .inputs = 7, .limit = int64_t{7} * 4 * 64 * 4 - 1});
  REQUIRE(scarce.bytes() == 7 * 4 * 64 * 4);  // four channels of 8 by 8, which both branches read
  REQUIRE_FALSE(scarce.keeps());
}

TEST_CASE("in reference mode averages move as by clean inputs, then faults, in the whole network",
          "[inner]") {
  const Network& original = branched_network();
  const Sets sets;
  for (const std::optional<int64_t> limit : {std::optional<int64_t>(), std::optional<int64_t>(0)}) {
    Network network = original.fork(), plain = original.fork();
    routing::BlockRepair repair(network, blocks_of(original, 3), sets.faulty, sets.clean,
                                {.learning_rate = 0, .batch = 3, .train_mode = true, .cache_limit = limit});
    const size_t first = repair.blocks() - 1;  // its probe does not see the second batch norm... of all
    REQUIRE(repair.train_on_probe(first, 0));
    for (int64_t begin = 0; begin < 5; begin += 3) {
      const int64_t end = std::min<int64_t>(5, begin + 3);
      plain.training_logits(sets.clean.load(begin, end, at::kCPU), 0);
      plain.training_logits(sets.faulty.load(begin, end, at::kCPU), 0);
    }
    int64_t averages = 0;
    for (size_t id = 0; id < network.parameters().size(); ++id) {
      if (!is_average(network.parameters()[id])) continue;
      ++averages;
      REQUIRE(at::allclose(network.parameters()[id].value, plain.parameters()[id].value, 1e-6, 1e-7));
      REQUIRE_FALSE(network.parameters()[id].value.equal(original.parameters()[id].value));
    }
    REQUIRE(averages == 4);
  }
}

TEST_CASE("IN returns the epoch of the highest accuracy on inputs it does not train on", "[inner]") {
  int earlier = 0;
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    for (const std::string mode : {"evaluation", "reference"}) {
      const nlohmann::json parameters = {{"bn_mode", mode}, {"mask_mode", "union"}};
      const auto fix = [&](const nlohmann::json& more) {
        nlohmann::json all = quick(parameters);
        all.update(more);
        return run(setup_for("IN", all), *network);
      };
      const Outcome best = fix({{"keep", "auto"}}), last = fix({{"keep", "last"}});
      REQUIRE(last.log.scalars.count("kept_epoch") == 0);
      const std::vector<double>& clean = best.log.series.at("clean_accuracy");
      REQUIRE((clean == last.log.series.at("clean_accuracy")));
      REQUIRE(clean.size() == 12);  // twice an epoch
      const auto kept = static_cast<int64_t>(best.log.scalars.at("kept_epoch"));
      const std::vector<double>& faults = best.log.series.at("fault_rate");
      for (int64_t epoch = 1; epoch <= 6; ++epoch) {
        const auto at = static_cast<size_t>(2 * epoch - 1), own = static_cast<size_t>(2 * kept - 1);
        REQUIRE(clean[at] <= clean[own]);
        if (clean[at] == clean[own]) REQUIRE(faults[at] >= faults[own]);
      }
      const Outcome shorter = fix({{"keep", "last"}, {"epochs", kept}});
      REQUIRE(best.result.network->digest() == shorter.result.network->digest());
      const std::string note = "kept epoch " + std::to_string(kept) + " of 6";
      REQUIRE((best.result.note.find(note) != std::string::npos) == (kept < 6));
      REQUIRE(last.result.note.find("kept epoch") == std::string::npos);
      earlier += kept < 6;
    }
  }
  REQUIRE(earlier > 1);
}

TEST_CASE("an interrupted IN keeps the best epoch that it had", "[inner]") {
  for (const std::string mode : {"evaluation", "reference"})
    require_same_after_stops([&] { return setup_for("IN", quick({{"bn_mode", mode}})); }, branched_network());
}

TEST_CASE("IN says where it missed its goal, and not where it reached it", "[inner]") {
  const Outcome missed = run(setup_for("IN", quick()));
  REQUIRE(missed.log.scalars.at("reached_its_goal") == 0);
  REQUIRE(missed.result.note.find("missed its goal: ") != std::string::npos);
  // A goal that holds as soon as one held-out fault is right.
  const Outcome reached =
      run(setup_for("IN", quick({{"epochs", 20}, {"goal_fault_rate", 1}, {"accuracy_slack", 1}})));
  REQUIRE(reached.log.scalars.at("reached_its_goal") == 1);
  REQUIRE(reached.result.note.find("missed its goal") == std::string::npos);
  REQUIRE(reached.log.scalars.at("kept_epoch") == static_cast<double>(reached.log.counters.at("epochs")));
}

TEST_CASE("masks of all weights are noted, and a control has nothing to draw", "[inner]") {
  const nlohmann::json all = quick({{"mask_mode", "union"}, {"routing_samples", 16}, {"epochs", 2}});
  const Outcome full = run(setup_for("IN", all)), control = run(setup_for("RAND", all, "IN"));
  for (const double density : full.log.series.at("mask_density")) REQUIRE(density > 0.99);
  REQUIRE(full.result.note.find("the masks hold ") != std::string::npos);
  REQUIRE_FALSE(control.result.network.has_value());
  REQUIRE(control.result.unadaptable);
  REQUIRE(control.result.failure.code == "vacuous_control");
  REQUIRE(control.log.counters.count("optimiser_steps") == 0);  // it ends before the repair
  // With a choice left, both are fixes.
  const nlohmann::json few = quick({{"top_weights", 9}, {"epochs", 2}});
  const Outcome chosen = run(setup_for("IN", few)), drawn = run(setup_for("RAND", few, "IN"));
  REQUIRE(chosen.result.note.find("the masks hold ") == std::string::npos);
  REQUIRE((chosen.result.network.has_value() && drawn.result.network.has_value()));
  REQUIRE_FALSE(drawn.result.unadaptable);
  REQUIRE(chosen.log.series.at("mask_density") == drawn.log.series.at("mask_density"));
  REQUIRE(chosen.result.network->digest() != drawn.result.network->digest());
}

}  // namespace
}  // namespace harness::test_inner_repair
