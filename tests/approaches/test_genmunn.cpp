#include <cmath>
#include <set>

#include "approaches/locate/faults.hpp"
#include "approaches/locate/impact.hpp"
#include "approaches/locate/layer_rankings.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::branched_network;
using testing::changed_values;
using testing::MemorySlot;
using testing::Outcome;
using testing::run;
using testing::setup_for;
using testing::tiny_data;
using testing::tiny_network;

std::vector<InputSet> whole_split() {
  InputSet all{.split = &tiny_data().split("repair"), .positions = {}, .negative = true};
  for (int64_t n = 0; n < all.split->size(); ++n) all.positions.push_back(n);
  return {all};
}

int64_t correct_of(const Network& network) {
  return static_cast<int64_t>(locate::judge_split(network, tiny_data().split("repair"), 120).correct.size());
}

double loss_of(const Network& network) {
  const Split& split = tiny_data().split("repair");
  return at::cross_entropy_loss(network.logits(split.inputs(0, split.size())).to(at::kDouble), split.labels(),
                                {}, at::Reduction::Sum)
      .item<double>();
}

locate::InfluenceSums influence_of(const Network& network, const TargetLayer& layer, locate::RankBy by,
                                   int64_t batch = 50) {
  locate::InfluenceSums sums;
  REQUIRE(locate::add_influence(network, layer, by, search::SearchInputs(network, whole_split()), batch, {},
                                {}, sums));
  return sums;
}

// Multiplies one unit's weights and bias, or behind a batch norm that one's scale and shift.
Network with_scaled_unit(const Network& network, const TargetLayer& layer, int64_t unit, double factor) {
  Network scaled = network.fork();
  const Node* node = &network.nodes()[layer.node];
  for (const Node& other : network.nodes()) {
    if (other.kind == NodeKind::batch_norm && other.inputs[0] == layer.node) node = &other;
  }
  for (const int role : {0, 1}) {
    if (node->parameters[role] < 0) continue;
    at::Tensor value = network.parameters()[node->parameters[role]].value.clone();
    value.select(0, unit).mul_(factor);
    scaled.set_parameter(node->parameters[role], value);
  }
  return scaled;
}

TEST_CASE("knock-outs count what really zeroed units and weights count", "[genmunn]") {
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    int64_t differing = 0;
    for (const TargetLayer& layer : target_layers(*network)) {
      INFO(network->nodes()[layer.node].name);
      const locate::InfluenceSums sums = influence_of(*network, layer, locate::RankBy::weight_knockout);
      REQUIRE(sums.inputs == 120);
      REQUIRE(sums.correct == correct_of(*network));
      const int64_t units = network->parameters()[layer.weight].value.size(0);
      REQUIRE(sums.unit_correct.size(0) == units);
      for (int64_t unit = 0; unit < units; ++unit) {
        const int64_t expected = correct_of(with_scaled_unit(*network, layer, unit, 0));
        REQUIRE(sums.unit_correct[unit].item<int64_t>() == expected);
        differing += expected != sums.correct;
      }
      const int64_t weights = network->parameters()[layer.weight].value.numel();
      REQUIRE(sums.weight_correct.size(0) == weights);
      for (int64_t index = 0; index < weights; index += 7) {
        Network without = network->fork();
        apply_edits(without, {{layer.weight, index, 0.0f}});
        REQUIRE(sums.weight_correct[index].item<int64_t>() == correct_of(without));
      }
    }
    REQUIRE(differing > 5);
  }
}

TEST_CASE("first-order estimates equal gradients and finite differences", "[genmunn]") {
  std::vector<int64_t> everything;
  for (int64_t n = 0; n < 120; ++n) everything.push_back(n);
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    const std::vector<TargetLayer> layers = target_layers(*network);
    const auto scores = locate::weight_scores(*network, layers, tiny_data().split("repair"), everything, {});
    for (size_t l = 0; l < layers.size(); ++l) {
      INFO(network->nodes()[layers[l].node].name);
      const locate::InfluenceSums sums = influence_of(*network, layers[l], locate::RankBy::taylor);
      const double scale = scores[l].gradient_loss.max().item<double>();
      REQUIRE(at::allclose(sums.kernel_gradient.abs(), scores[l].gradient_loss, 1e-3, 1e-4 * scale));
      const double maximum = sums.unit_gradient.abs().max().item<double>();
      for (int64_t unit = 0; unit < sums.unit_gradient.size(0); ++unit) {
        const double step = 1e-3;
        const double difference = (loss_of(with_scaled_unit(*network, layers[l], unit, 1 + step)) -
                                   loss_of(with_scaled_unit(*network, layers[l], unit, 1 - step))) /
                                  (2 * step);
        REQUIRE(sums.unit_gradient[unit].item<double>() ==
                Approx(difference).epsilon(0.03).margin(0.02 * maximum));
      }
    }
  }
}

TEST_CASE("influences do not depend on slabs, nor on a stop between them", "[genmunn]") {
  const TargetLayer layer = target_layers(tiny_network())[1];
  const locate::InfluenceSums whole =
                                  influence_of(tiny_network(), layer, locate::RankBy::weight_knockout, 120),
                              slabs =
                                  influence_of(tiny_network(), layer, locate::RankBy::weight_knockout, 25);
  REQUIRE(whole.correct == slabs.correct);
  REQUIRE(at::equal(whole.unit_correct, slabs.unit_correct));
  REQUIRE(at::equal(whole.weight_correct, slabs.weight_correct));
  REQUIRE(at::allclose(whole.kernel_gradient, slabs.kernel_gradient, 1e-4, 1e-4));
  locate::InfluenceSums parts;
  const search::SearchInputs inputs(tiny_network(), whole_split());
  int64_t stops = 0;
  for (int64_t polls = 1; parts.inputs < 120; polls = 6) {
    int64_t left = polls;
    std::map<std::string, at::Tensor> saved;
    parts.save(saved);
    parts = locate::InfluenceSums::load(saved);
    stops += !locate::add_influence(
        tiny_network(), layer, locate::RankBy::weight_knockout, inputs, 25, [&] { return left-- == 0; }, {},
        parts);
  }
  REQUIRE(stops >= 1);
  REQUIRE(at::equal(parts.unit_correct, slabs.unit_correct));
  REQUIRE(at::equal(parts.weight_correct, slabs.weight_correct));
  REQUIRE(at::equal(parts.kernel_gradient, slabs.kernel_gradient));
  REQUIRE(at::equal(parts.unit_gradient, slabs.unit_gradient));
}

TEST_CASE("ranks follow both keys", "[genmunn]") {
  const TargetLayer layer = target_layers(tiny_network())[2];  // 10 units of 16 weights
  const at::Tensor kernel = tiny_network().parameters()[layer.weight].value.to(at::kDouble);
  const locate::InfluenceSums sums = influence_of(tiny_network(), layer, locate::RankBy::weight_knockout);
  const at::Tensor estimate = (kernel * sums.kernel_gradient).abs().flatten();
  const auto unit_key = [&](int64_t unit) {
    return std::abs(sums.correct - sums.unit_correct[unit].item<int64_t>());
  };
  const auto key = [&](locate::RankBy by, int64_t index) {
    const double own = estimate[index].item<double>();
    switch (by) {
      case locate::RankBy::unit_knockout:
        return std::pair(static_cast<double>(unit_key(index / 16)), own);
      case locate::RankBy::weight_knockout:
        return std::pair(
            std::abs(static_cast<double>(sums.correct - sums.weight_correct[index].item<int64_t>())), own);
      case locate::RankBy::taylor:
        return std::pair(0.0, own);
      default:
        return std::pair(0.0, std::abs(kernel.flatten()[index].item<double>()));
    }
  };
  for (const locate::RankBy by : {locate::RankBy::unit_knockout, locate::RankBy::taylor,
                                  locate::RankBy::weight_knockout, locate::RankBy::magnitude}) {
    const locate::LayerRanking all = locate::rank_layer(tiny_network(), layer, by, sums, 160),
                               some = locate::rank_layer(tiny_network(), layer, by, sums, 9);
    REQUIRE(std::set<int64_t>(all.weights.begin(), all.weights.end()).size() == 160);
    for (size_t k = 1; k < 160; ++k) REQUIRE(key(by, all.weights[k - 1]) >= key(by, all.weights[k]));
    REQUIRE(some.weights == std::vector<int64_t>(all.weights.begin(), all.weights.begin() + 9));
    REQUIRE(all.units.size() == 10);
    REQUIRE(std::set<int64_t>(all.units.begin(), all.units.end()).size() == 10);
  }
  const locate::LayerRanking knocked =
      locate::rank_layer(tiny_network(), layer, locate::RankBy::unit_knockout, sums, 4);
  for (size_t k = 1; k < 10; ++k) REQUIRE(unit_key(knocked.units[k - 1]) >= unit_key(knocked.units[k]));
  REQUIRE(unit_key(knocked.units[0]) > unit_key(knocked.units[9]));
  REQUIRE(locate::rank_by("default", tiny_network(), layer, 0.2) == locate::RankBy::unit_knockout);
  REQUIRE(locate::rank_by("default", tiny_network(), layer, 0.1) == locate::RankBy::taylor);
}

TEST_CASE("ranks are drawn in proportion to what is left of the window", "[genmunn]") {
  RandomStream stream(12);
  std::vector<int64_t> first(8, 0);
  const int64_t rounds = 40000;
  for (int64_t round = 0; round < rounds; ++round) {
    const std::vector<int64_t> ranks = search::draw_ranks(8, 2, stream);
    REQUIRE(ranks.size() == 2);
    REQUIRE(ranks[0] != ranks[1]);
    ++first[ranks[0]];
  }
  for (int64_t rank = 0; rank < 8; ++rank) {  // 8:7:...:1 of 36
    const double expected = static_cast<double>(rounds) * static_cast<double>(8 - rank) / 36;
    REQUIRE(std::abs(static_cast<double>(first[rank]) - expected) < 5 * std::sqrt(expected));
  }
  std::vector<int64_t> all = search::draw_ranks(8, 8, stream);
  std::sort(all.begin(), all.end());
  REQUIRE(all == std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7});
  const search::MutantSettings settings{.share = 0.01};
  REQUIRE((search::mutated(settings, 160) == 2 && search::window(settings, 160) == 8));
  REQUIRE((search::mutated(settings, 10) == 1 && search::window(settings, 10) == 4));
  REQUIRE((search::mutated(settings, 3) == 1 && search::window(settings, 3) == 3));
}

TEST_CASE("each operator does what it says", "[genmunn]") {
  const Network& network = tiny_network();
  const search::OriginalValues original(network);
  const TargetLayer target = target_layers(network)[2];
  search::MutableLayer layer = search::mutable_layer(network, target);
  REQUIRE((layer.units == 10 && layer.row == 16 && layer.bias >= 0));
  layer.ranked = true;
  for (int64_t k = 0; k < 160; ++k) layer.top_weights.push_back(159 - k);
  layer.top_units = {7, 2, 3, 4, 5, 6, 1, 8, 9, 0};
  RandomStream stream(13);
  const Edits parent = {{target.weight, 7 * 16 + 1, 4.0f}, {layer.bias, 7, 2.0f}};
  const auto only = [](double fuzz, double negate, double zero, double shuffle) {
    return search::MutantSettings{.fuzz = fuzz, .negate = negate, .zero = zero, .shuffle = shuffle};
  };
  const auto unit_of = [&](const Edits& edits) {
    Network changed = network.fork();
    apply_edits(changed, edits);
    return std::pair(changed.parameters()[layer.weight].value.contiguous(),
                     changed.parameters()[layer.bias].value.contiguous());
  };
  const auto [kernel, bias] = unit_of(parent);
  std::set<int64_t> units;
  for (int round = 0; round < 60; ++round) {
    const Edits fuzzed = search::mutant(parent, layer, only(1, 0, 0, 0), original, stream);
    REQUIRE(fuzzed.size() <= parent.size() + 2);
    for (const Edit& edit : fuzzed) {
      if (edit.value == original.at(parent, edit.parameter, edit.index)) continue;
      REQUIRE((edit.parameter == target.weight && edit.index >= 152));  // one of the eight first ranks
      const double before = original.at(parent, edit.parameter, edit.index);
      REQUIRE(std::abs(edit.value - before) < 0.1 * 6 * std::abs(before));
    }
    for (const auto& settings : {only(0, 1, 0, 0), only(0, 0, 1, 0), only(0, 0, 0, 1)}) {
      const auto [found, found_bias] = unit_of(search::mutant(parent, layer, settings, original, stream));
      const at::Tensor rows = found.ne(kernel).any(1).logical_or(found_bias.ne(bias)).nonzero();
      REQUIRE(rows.numel() == 1);
      const int64_t unit = rows.item<int64_t>();
      units.insert(unit);
      if (settings.negate == 1) {
        REQUIRE((at::equal(found[unit], -kernel[unit]) && at::equal(found_bias[unit], -bias[unit])));
      } else if (settings.zero == 1) {
        REQUIRE((found[unit].abs().max().item<float>() == 0 && found_bias[unit].item<float>() == 0));
      } else {
        REQUIRE(at::equal(std::get<0>(found[unit].sort()), std::get<0>(kernel[unit].sort())));
        REQUIRE(at::equal(found_bias, bias));
      }
    }
  }
  REQUIRE(units == std::set<int64_t>{2, 3, 4, 7});  // the window of one unit in four
  // Negated twice is the parent again.
  layer.top_units = {7};
  layer.units = 1;
  const Edits once = search::mutant(parent, layer, only(0, 1, 0, 0), original, stream);
  REQUIRE((search::mutant(once, layer, only(0, 1, 0, 0), original, stream) == parent));
  // Without ranks everything is drawn.
  search::MutableLayer unranked = search::mutable_layer(network, target);
  std::set<int64_t> seen;
  for (int round = 0; round < 1500; ++round) {
    for (const Edit& edit : search::mutant({}, unranked, only(1, 0, 0, 0), original, stream))
      seen.insert(edit.index);
  }
  REQUIRE(seen.size() == 160);
}

// Enough noise that a network this small gains something within a few generations; the validation split has
// no say.
const nlohmann::json kBrisk = {{"sigma", 0.5}, {"rho", 0.05}, {"generations", 25}, {"guard", "off"}};

nlohmann::json brisk_with(const nlohmann::json& more) {
  nlohmann::json parameters = kBrisk;
  parameters.update(more);
  return parameters;
}

TEST_CASE("GM gains inputs and changes nothing but what it declares", "[genmunn]") {
  int gains = 0;
  for (const std::string rank : {"default", "taylor", "knockout", "magnitude"}) {
    for (const std::string layer : {"backwards", "random"}) {
      INFO(rank << ", " << layer);
      const Outcome outcome = run(setup_for("GM", brisk_with({{"rank", rank}, {"layer", layer}})));
      REQUIRE(outcome.result.network.has_value());
      const auto& scalars = outcome.log.scalars;
      const bool gained = outcome.result.note.empty();
      gains += gained;
      REQUIRE(scalars.at("original_correct") == static_cast<double>(correct_of(tiny_network())));
      REQUIRE((scalars.at("best_correct") > scalars.at("original_correct")) == gained);
      if (gained) {
        REQUIRE(scalars.at("best_correct") == static_cast<double>(correct_of(*outcome.result.network)));
      }
      const auto changed = changed_values(tiny_network(), *outcome.result.network);
      REQUIRE(static_cast<double>(changed.size()) == scalars.at("changed_weights"));
      size_t declared = 0;
      for (const auto& [name, indices] : outcome.result.touched.weights) declared += indices.size();
      REQUIRE(declared == changed.size());
      for (const auto& [name, index] : changed) {
        const std::vector<int64_t>& indices = outcome.result.touched.weights.at(name);
        REQUIRE(std::count(indices.begin(), indices.end(), index) == 1);
      }
      const std::vector<double>& series = outcome.log.series.at("best_correct");
      REQUIRE(std::is_sorted(series.begin(), series.end()));
      REQUIRE(series.front() >= scalars.at("original_correct"));  // the original is one of the candidates
      REQUIRE(series.size() == static_cast<size_t>(outcome.log.counters.at("generations")) + 1);
      REQUIRE(outcome.log.counters.at("evaluations") == 20 + 18 * outcome.log.counters.at("generations"));
      REQUIRE(outcome.log.phases.count("localise") + outcome.log.phases.count("search") == 2);
    }
  }
  REQUIRE(gains >= 6);  // of eight
}

TEST_CASE("GM returns the original when no mutant gains anything", "[genmunn]") {
  const nlohmann::json still = {{"sigma", 0},   {"fuzz", 1},  {"negate", 0},   {"zero", 0},
                                {"shuffle", 0}, {"stall", 3}, {"guard", "off"}};
  const Outcome outcome = run(setup_for("GM", still));
  REQUIRE(outcome.result.note == "returned the original: no mutant classifies more inputs correctly");
  REQUIRE(changed_values(tiny_network(), *outcome.result.network).empty());
  REQUIRE(outcome.result.touched.weights.empty());
  REQUIRE(outcome.log.counters.at("generations") == 3);
  REQUIRE(outcome.log.scalars.at("changed_weights") == 0);
}

TEST_CASE("GM counts the validation split where it is asked to", "[genmunn]") {
  const Outcome outcome = run(setup_for("GM", brisk_with({{"add_validation", true}})));
  const int64_t both =
      correct_of(*outcome.result.network) +
      static_cast<int64_t>(
          locate::judge_split(*outcome.result.network, tiny_data().split("validation"), 24).correct.size());
  REQUIRE(outcome.log.scalars.at("best_correct") == static_cast<double>(both));
  REQUIRE(outcome.log.scalars.at("original_correct") > static_cast<double>(correct_of(tiny_network())));
}

void require_equal(const Outcome& a, const Outcome& b) {
  REQUIRE(changed_values(*a.result.network, *b.result.network).empty());
  REQUIRE(a.result.note == b.result.note);
  REQUIRE(a.log.counters == b.log.counters);
  REQUIRE(a.log.series == b.log.series);
  REQUIRE(a.log.scalars == b.log.scalars);
}

TEST_CASE("GM goes on bit for bit from every checkpoint", "[genmunn]") {
  struct Row {
    std::string key;
    nlohmann::json parameters;
  };
  for (const Row& row : {Row{"GM", brisk_with({{"generations", 12}})},
                         Row{"GM", brisk_with({{"generations", 9}, {"rerank", 4}, {"layer", "random"}})},
                         Row{"RAND", brisk_with({{"generations", 6}})}}) {
    const std::string shadow = row.key == "RAND" ? "GM" : "";
    std::vector<CheckpointState> saved;
    FixContext::Setup every = setup_for(row.key, row.parameters, shadow);
    every.checkpoint = {.load = {},
                        .save = [&](const CheckpointState& state, const FixLog&) { saved.push_back(state); },
                        .due = [] { return true; }};
    const Outcome whole = run(std::move(every));
    bool half_ranked = false;
    for (const CheckpointState& state : saved) half_ranked |= state.count("influence.position") > 0;
    REQUIRE(half_ranked == (row.key == "GM"));
    for (size_t k = 0; k < saved.size(); k += 3) {
      FixContext::Setup again = setup_for(row.key, row.parameters, shadow);
      again.checkpoint.load = [&] { return saved[k]; };
      require_equal(whole, run(std::move(again)));
    }
  }
}

TEST_CASE("GM stops when asked and goes on bit for bit", "[genmunn]") {
  const nlohmann::json parameters = brisk_with({{"generations", 8}});
  const Outcome whole = run(setup_for("GM", parameters));
  for (const int64_t polls : {0, 2, 3, 9, 25, 60}) {
    MemorySlot memory;
    FixContext::Setup first = setup_for("GM", parameters);
    first.checkpoint = memory.slot();
    first.stop = [left = polls]() mutable { return left-- == 0; };
    const Outcome part = run(std::move(first));
    REQUIRE(memory.saves == (polls < 6 ? 0 : 1));  // the first six are for two passes of 120 inputs by 50
    if (polls < 6) REQUIRE(part.result.failure.code == "timeout");
    if (part.result.network) REQUIRE(part.result.note.find("stopped after") == 0);
    FixContext::Setup second = setup_for("GM", parameters);
    second.checkpoint = memory.slot();
    require_equal(whole, run(std::move(second)));
  }
}

TEST_CASE("RAND:GM mutates other weights than the ranks say", "[genmunn]") {
  const Outcome ranked = run(setup_for("GM", kBrisk));
  const Outcome random = run(setup_for("RAND", kBrisk, "GM"));
  REQUIRE(random.log.counters.at("evaluations") == 20 + 18 * random.log.counters.at("generations"));
  REQUIRE_FALSE(changed_values(*ranked.result.network, *random.result.network).empty());
}

TEST_CASE("GM says when it does not apply", "[genmunn]") {
  const auto refusal = [](int64_t faults) {
    const FixContext::Setup setup = setup_for("GM");
    return find_approach("GM")->adapt({.network = &tiny_network(),
                                       .data = &tiny_data(),
                                       .hyperparameters = setup.hyperparameters,
                                       .repair_faults = faults});
  };
  REQUIRE_FALSE(refusal(3).has_value());
  REQUIRE(refusal(0)->code == "no_faults");
}

}  // namespace
}  // namespace harness
