// What GM accepts, when it ends, and what a stop leaves.
#include <set>

#include "approaches/locate/faults.hpp"
#include "approaches/locate/neuron_influence.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness::test_genmunn_accepts {  // apart: files are compiled together
namespace {

using testing::branched_network;
using testing::changed_values;
using testing::MemorySlot;
using testing::Outcome;
using testing::run;
using testing::setup_for;
using testing::tiny_data;
using testing::tiny_network;

nlohmann::json brisk(const nlohmann::json& more = nlohmann::json::object()) {
  nlohmann::json parameters = {{"sigma", 0.5}, {"rho", 0.05}, {"generations", 25}};
  parameters.update(more);
  return parameters;
}

int64_t correct_on(const Network& network, const std::string& split) {
  return static_cast<int64_t>(locate::judge_split(network, tiny_data().split(split), 50).correct.size());
}
int64_t gain_on(const Network& network, const std::string& split) {
  return correct_on(network, split) - correct_on(tiny_network(), split);
}

TEST_CASE("GM accepts what gains on both splits together and loses on neither, an earlier best at need",
          "[genmunn]") {
  int losses = 0, gains = 0, earlier = 0;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    const auto fix = [&](const char* guard) {
      FixContext::Setup setup = setup_for("GM", brisk({{"guard", guard}}));
      setup.seed = seed;
      return run(std::move(setup));
    };
    const Outcome off = fix("off"), on = fix("on"), by_default = fix("auto");
    REQUIRE(on.result.network->digest() == by_default.result.network->digest());  // there is validation
    REQUIRE(on.log.scalars == by_default.log.scalars);
    REQUIRE((on.log.series == off.log.series));  // the search itself is the same
    REQUIRE(off.log.scalars.count("validation_gain") == 0);
    const Network& best = *off.result.network;
    const int64_t repair = gain_on(best, "repair"), apart = gain_on(best, "validation");
    const bool accepted = repair >= 0 && apart >= 0 && repair + apart > 0;
    if (repair > 0) {
      REQUIRE(off.log.scalars.at("repair_gain") == static_cast<double>(repair));
      REQUIRE(on.result.note.empty() == accepted);
      const Network& returned = *on.result.network;
      const bool is_original = changed_values(tiny_network(), returned).empty();
      const int64_t own_repair = gain_on(returned, "repair"), own_apart = gain_on(returned, "validation");
      const std::string why = "the best mutant loses accuracy on the validation split";
      if (accepted) {
        REQUIRE(changed_values(best, returned).empty());
      } else if (is_original) {
        if (apart < 0) REQUIRE(on.result.note == "returned the original: " + why);
      } else {
        ++earlier;
        if (apart < 0) REQUIRE(on.result.note == why + ", an earlier one is returned");
        REQUIRE((own_repair >= 0 && own_apart >= 0 && own_repair + own_apart > 0));
      }
      REQUIRE(on.log.scalars.at("repair_gain") == static_cast<double>(is_original ? repair : own_repair));
      REQUIRE(on.log.scalars.at("validation_gain") == static_cast<double>(is_original ? apart : own_apart));
    }
    losses += repair > 0 && apart < 0;
    gains += accepted;
  }
  CAPTURE(losses, gains, earlier);
  REQUIRE((losses > 0 && gains > 0 && earlier > 0));
}

TEST_CASE("whatever stops GM, what it returns was counted before", "[genmunn]") {
  const nlohmann::json parameters = brisk({{"generations", 10}});
  int64_t polls = 0;
  FixContext::Setup counted = setup_for("GM", parameters);
  counted.stop = [&polls] { return ++polls < 0; };
  std::set<int64_t>
      stops;  // right after each generation, when its best is not counted yet; and the last ones
  counted.progress = [&](double, const std::string&) { stops.insert(polls); };
  const Outcome whole = run(std::move(counted));
  REQUIRE(whole.log.counters.at("generations") == 10);
  REQUIRE(whole.log.scalars.at("repair_gain") > 0);
  int fell_back = 0, gained = 0;
  for (int64_t k = 1; k <= 6; ++k) stops.insert(polls - k);
  stops.erase(polls);  // the last generation's count follows it
  for (const int64_t at : stops) {
    INFO("stopped at poll " << at << " of " << polls);
    MemorySlot memory;
    FixContext::Setup setup = setup_for("GM", parameters);
    setup.checkpoint = memory.slot();
    setup.stop = [left = at]() mutable { return left-- <= 0; };
    const Outcome part = run(std::move(setup));
    if (!part.result.network) {
      REQUIRE(part.result.failure.code == "timeout");
      continue;
    }
    REQUIRE(part.result.note.find("stopped after ") == 0);
    REQUIRE(memory.saves == 1);
    // The last polls are those of the last count: all generations are there, and the result is an earlier
    // one.
    if (at == polls - 1) REQUIRE(part.result.note.find("stopped after 10 generations") == 0);
    const int64_t repair = gain_on(*part.result.network, "repair");
    if (part.result.note.find("returned the original") == std::string::npos) {
      REQUIRE(part.log.scalars.at("repair_gain") == static_cast<double>(repair));
      REQUIRE(gain_on(*part.result.network, "validation") >= 0);
      ++gained;
    } else {
      REQUIRE(changed_values(tiny_network(), *part.result.network).empty());
    }
    fell_back += part.result.note.find("could not be counted") != std::string::npos;
    FixContext::Setup again = setup_for("GM", parameters);
    again.checkpoint = memory.slot();
    const Outcome rest = run(std::move(again));
    REQUIRE(changed_values(*rest.result.network, *whole.result.network).empty());
    REQUIRE(rest.log.scalars == whole.log.scalars);
    REQUIRE(rest.result.note == whole.result.note);
  }
  REQUIRE(fell_back > 0);
  REQUIRE(gained + fell_back > 3);
}

TEST_CASE("every layer has its turn before GM gives up", "[genmunn]") {
  const testing::TemporaryFolder folder;
  std::string program = R"(
import torch
from torch import nn
torch.manual_seed(2)
layers = [nn.Flatten(), nn.Linear(128, 4)]
for _ in range(22):
    layers += [nn.ReLU(), nn.Linear(4, 4)]
torch.jit.script(nn.Sequential(*layers).eval()).save('@')
)";
  program.replace(program.find('@'), 1, (folder / "deep.pt").string());
  testing::run_python(program);
  const Network deep = Network::load(folder / "deep.pt", tiny_data().split("repair").inputs(0, 3));
  const nlohmann::json still = {{"sigma", 0}, {"fuzz", 1},    {"negate", 0},
                                {"zero", 0},  {"shuffle", 0}, {"rank", "magnitude"}};
  REQUIRE(run(setup_for("GM", still), deep).log.counters.at("generations") == 23);
  REQUIRE(run(setup_for("GM", still)).log.counters.at("generations") == 20);
  nlohmann::json told = still;
  told["stall"] = 4;
  REQUIRE(run(setup_for("GM", told), deep).log.counters.at("generations") == 4);
}

TEST_CASE("knock-outs are chosen by what they cost", "[genmunn]") {
  const Network& network = tiny_network();
  const std::vector<TargetLayer> layers = target_layers(network);
  REQUIRE(layers.size() == 4);
  // Multiply-adds of the layers and values of the rest: 3456, 192, 48, 432, 16, 16, 160, 10, 40.
  const double all = 4370;
  const std::vector<double> passes = {3 * (all - 3456) / all, 4 * (16 + 16 + 160 + 10 + 40) / all,
                                      10 * (10 + 40) / all, 0};
  for (size_t l = 0; l < layers.size(); ++l) {
    INFO(network.nodes()[static_cast<size_t>(layers[l].node)].name);
    REQUIRE(locate::knockout_passes(network, layers[l]) == Approx(passes[l]));
    REQUIRE(locate::rank_by("default", network, layers[l], passes[l] + 1e-9) ==
            locate::RankBy::unit_knockout);
    if (passes[l] > 0)
      REQUIRE(locate::rank_by("default", network, layers[l], passes[l] - 1e-9) == locate::RankBy::taylor);
    REQUIRE(locate::rank_by("knockout", network, layers[l], 0) == locate::RankBy::weight_knockout);
  }
  // Behind a batch norm, its channels are silenced: its own work is not repeated.
  for (const TargetLayer& layer : target_layers(branched_network()))
    REQUIRE(locate::knockout_passes(branched_network(), layer) <
            static_cast<double>(branched_network().parameters()[layer.weight].value.size(0)));
}

}  // namespace
}  // namespace harness::test_genmunn_accepts
