#include <torch/optim/adam.h>

#include <cmath>

#include "approaches/bounds/unit_edit.hpp"
#include "approaches/locate/faults.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/approaches/heads.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::changed_values;
using testing::head_network;
using testing::MemorySlot;
using testing::Outcome;
using testing::require_same_after_stops;
using testing::run;
using testing::setup_for;
using testing::tiny_data;
using testing::tiny_network;

// The tiny network changes its answers only with a greater step.
const nlohmann::json kLively = {
    {"learning_rate", 0.2}, {"interval_factor", 2}, {"rounds", 6}, {"epochs", 10}};

bounds::NeuronSite site_of(const Network& network, int64_t check_layer = 1) {
  return std::get<bounds::NeuronSite>(bounds::neuron_site(network, check_layer));
}
at::Tensor value_of(const Network& network, const std::string& name) {
  return network.parameters()[static_cast<size_t>(network.find_parameter(name))].value;
}

TEST_CASE("where VeRe's intervals lie", "[vere]") {
  const at::Tensor values = at::tensor({1.0, 0.0, 3.0, 0.0}, at::kDouble).view({2, 2});
  const auto edges = [&](const std::string& start, double factor) {
    return bounds::interval_edges(values, {.start = start, .factor = factor, .count = 2});
  };
  const auto expected = [](std::vector<double> first, double second) {
    return at::stack({at::tensor(first, at::kDouble), at::full({3}, second, at::kDouble)});
  };
  REQUIRE(edges("below_minimum", 1).equal(expected({-1, 0, 1}, 0)));
  REQUIRE(edges("below_minimum", 2).equal(expected({-1, 1, 3}, 0)));
  REQUIRE(edges("minimum", 1.5).equal(expected({1, 2.5, 4}, 0)));
  REQUIRE(edges("symmetric", 2).equal(expected({-6, 0, 6}, 0)));
}

TEST_CASE("a unit's targets", "[vere]") {
  bounds::UnitMoves moves;
  moves.edges = at::tensor({-2.0, -1.0, 0.0, 1.0}, at::kDouble).view({1, 4});
  moves.margin = at::tensor({-1.0, -1.0, -1.0, -1.0}, at::kDouble);
  moves.bounds = at::tensor({0.5,  0.2,  0.1,  0.3,  -1.0, 0.7,  // two intervals proved, the second is nearer
                             0.5,  -0.1, -0.5, -0.2, -3.0, 0.4,  // none: the end with the greatest gain, -2
                             -1.0, -1.5, -2.0, -1.1, -3.0, -1.0,   // no gain
                             -5.0, -2.0, -3.0, -2.0, -2.0, -0.5},  // the last end
                            at::kDouble)
                     .view({1, 4, 3, 2});
  const at::Tensor now = at::tensor({0.3, 0.3, 0.3, 0.3, 0.8}, at::kDouble);
  const bounds::UnitTargets targets = bounds::unit_targets(moves, 0, now);
  REQUIRE(targets.proved == 1);
  REQUIRE(targets.low.equal(at::tensor({-1.0, -2.0, 0.3, 1.0, 0.8}, at::kDouble)));
  REQUIRE(targets.high.equal(at::tensor({0.0, -2.0, 0.3, 1.0, 0.8}, at::kDouble)));
}

// Adam as LibTorch has it, with autograd, on the same batches.
TEST_CASE("a unit's fit is Adam on the distance to its targets", "[vere]") {
  const Network& network = tiny_network();
  const bounds::NeuronSite site = site_of(network);
  const at::Tensor features =
      network.activations(tiny_data().split("repair").inputs(0, 50), {site.features})[0];
  const int64_t unit = 3;
  const at::Tensor now = bounds::unit_values(network, site, unit, features);
  bounds::UnitTargets targets{.low = now - 0.5, .high = now - 0.2};
  RandomStream stream(21), again(21);
  const bounds::UnitFit fit = bounds::fit_unit(network, site, unit, features, targets,
                                               {.epochs = 3, .batch = 16, .learning_rate = 0.02}, stream);
  REQUIRE(fit.steps == 3 * 4);
  REQUIRE(fit.first_loss == Approx(0.04));
  REQUIRE(fit.last_loss < fit.first_loss);

  const at::AutoGradMode with_gradients(true);
  const auto leaf = [](const at::Tensor& x) {
    return x.to(at::kDouble).clone().detach().requires_grad_(true);
  };
  const at::Tensor row = leaf(value_of(network, "fc1.weight")[unit]),
                   bias = leaf(value_of(network, "fc1.bias")[unit]), scale = leaf(at::ones({})),
                   shift = leaf(at::zeros({}));
  torch::optim::Adam adam({row, bias, scale, shift}, torch::optim::AdamOptions(0.02));
  for (int epoch = 0; epoch < 3; ++epoch) {
    for (const at::Tensor& rows : at::tensor(again.permutation(50), at::kLong).split(16)) {
      const at::Tensor x = features.index_select(0, rows).to(at::kDouble);
      const at::Tensor out = scale * at::relu(x.matmul(row) + bias) + shift;
      const at::Tensor low = targets.low.index_select(0, rows), high = targets.high.index_select(0, rows);
      adam.zero_grad();
      ((low - out).relu() + (out - high).relu()).square().mean().backward();
      adam.step();
    }
  }
  REQUIRE(at::allclose(fit.unit.row, row.detach(), 0, 1e-10));
  REQUIRE(fit.unit.bias == Approx(bias.item<double>()).margin(1e-10));
  REQUIRE(fit.unit.scale == Approx(scale.item<double>()).margin(1e-10));
  REQUIRE(fit.unit.shift == Approx(shift.item<double>()).margin(1e-10));
  // A unit that is where it shall be stays.
  targets.low = targets.high = now;
  const bounds::UnitFit same = bounds::fit_unit(network, site, unit, features, targets, {}, stream);
  REQUIRE(same.last_loss == 0);
  REQUIRE(same.unit.row.equal(bounds::unit_of(network, site, unit).row));
}

TEST_CASE("a unit written back is the fitted one", "[vere]") {
  const Network& network = tiny_network();
  const at::Tensor x = tiny_data().split("repair").inputs(0, 30);
  for (const int64_t check_layer : {0, 1}) {
    const bounds::NeuronSite site = site_of(network, check_layer);
    const at::Tensor features = network.activations(x, {site.features})[0];
    bounds::Unit unit = bounds::unit_of(network, site, 2);
    unit.row = unit.row * 1.5 - 0.1;
    unit.bias += 0.3;
    unit.scale = -1.7;
    unit.shift = 0.6;
    Network edited = network.fork();
    bounds::write_unit(edited, site, 2, unit);
    at::Tensor values = network.activations(x, {site.values})[0].to(at::kDouble);
    const at::Tensor moved = check_layer == 0
                                 ? values.select(1, 2)
                                 : at::relu(features.to(at::kDouble).matmul(unit.row) + unit.bias);
    values.select(1, 2).copy_(unit.scale * moved + unit.shift);
    const at::Tensor expected = bounds::MarginBounds(network, site.values).logits(values);
    REQUIRE(at::allclose(edited.logits(x).to(at::kDouble), expected, 1e-4, 1e-4));
    const Touched touched = bounds::touched_by_units(network, site, {2});
    for (const auto& [name, index] : changed_values(network, edited)) {
      const std::vector<int64_t>& indices = touched.weights.at(name);
      REQUIRE(std::count(indices.begin(), indices.end(), index) == 1);
    }
    REQUIRE(touched.weights.size() == (check_layer == 0 ? 2 : 4));
  }
}

// Significance with a real run of what is behind the layer: its tail is one dense layer, so bounds are exact.
TEST_CASE("VeRe takes the unit that can do most for the faults", "[vere]") {
  const Network& network = tiny_network();
  const bounds::NeuronSite site = site_of(network);
  const locate::Judgement judgement = locate::judge_split(network, tiny_data().split("repair"), 50);
  const at::Tensor x = tiny_data().split("repair").inputs(0, 120);
  const at::Tensor all = network.activations(x, {site.values})[0].to(at::kDouble);
  const at::Tensor weight = value_of(network, "fc2.weight").to(at::kDouble);
  std::vector<double> significance(10, 0);
  for (const int64_t n : judgement.wrong) {
    const int64_t y = judgement.labels[n].item<int64_t>(), p = judgement.predictions[n].item<int64_t>();
    std::vector<double> gain;
    for (int64_t v = 0; v < 10; ++v) {
      const double low = all.select(1, v).min().item<double>(),
                   range = all.select(1, v).max().item<double>() - low;
      double maximum = 0;
      for (int t = 0; t <= 4; ++t) {
        const double value = low - range + 2 * range * t / 4;
        maximum = std::max(maximum,
                           (weight[y][v] - weight[p][v]).item<double>() * (value - all[n][v].item<double>()));
      }
      gain.push_back(range > 0 ? maximum : 0);
    }
    const auto [min_value, max_value] = std::minmax_element(gain.begin(), gain.end());
    for (size_t v = 0; v < 10; ++v) significance[v] += (gain[v] - *min_value) / (*max_value - *min_value);
  }
  const auto best = std::max_element(significance.begin(), significance.end());
  const Outcome outcome = run(setup_for("VERE", {{"intervals", 4}, {"interval_factor", 2}, {"rounds", 1}}));
  REQUIRE(outcome.log.series.at("unit")[0] == static_cast<double>(best - significance.begin()));
  REQUIRE(outcome.log.series.at("significance")[0] == Approx(*best));
}

TEST_CASE("VeRe keeps its best round and changes nothing but its units", "[vere]") {
  const Network& network = head_network("two_layer_tail");
  const locate::Judgement before = locate::judge_split(network, tiny_data().split("repair"), 50);
  const auto faults = static_cast<double>(before.wrong.size()), clean = 120 - faults;
  for (const auto& [check_layer, scored] :
       {std::pair<int64_t, std::string>{0, "counts"}, {1, "counts"}, {0, "published"}, {1, "published"}}) {
    INFO("check_layer " << check_layer << ", score " << scored);
    const double weight = scored == "counts" ? 1 : faults / clean;  // of a clean input
    nlohmann::json parameters = kLively;
    parameters.update(
        {{"check_layer", check_layer}, {"intervals", 3}, {"round_faults", 8}, {"score", scored}});
    const Outcome outcome = run(setup_for("VERE", parameters), network);
    REQUIRE(outcome.result.network.has_value());
    const auto& log = outcome.log;
    REQUIRE(log.scalars.at("faults") == faults);
    REQUIRE(log.scalars.at("clean") == clean);
    REQUIRE(log.counters.at("rounds") == 6);
    const std::vector<double>& score = log.series.at("score");
    const auto best = std::max_element(score.begin(), score.end());
    REQUIRE(*best > weight * clean);
    REQUIRE(log.scalars.at("best_score") == *best);
    REQUIRE(log.scalars.at("best_round") == static_cast<double>(best - score.begin() + 1));
    // The score of what came out, measured anew.
    const locate::Judgement after =
        locate::judge_split(*outcome.result.network, tiny_data().split("repair"), 50);
    double patched = 0, broken = 0;
    for (const int64_t n : before.wrong) patched += std::ranges::count(after.correct, n);
    for (const int64_t n : before.correct) broken += std::ranges::count(after.wrong, n);
    REQUIRE(log.scalars.at("n_patched") == patched);
    REQUIRE(log.scalars.at("n_broken") == broken);
    REQUIRE(*best == Approx(weight * (clean - broken) + patched));
    REQUIRE(outcome.result.note == "beyond the study: not a VGG head");
    const auto changed = changed_values(network, *outcome.result.network);
    REQUIRE_FALSE(changed.empty());
    for (const auto& [name, index] : changed) {
      const std::vector<int64_t>& indices = outcome.result.touched.weights.at(name);
      REQUIRE(std::count(indices.begin(), indices.end(), index) == 1);
    }
    // As many columns as units of the rounds up to the best one.
    const std::vector<double>& units = log.series.at("unit");
    const std::set<double> distinct(units.begin(), units.begin() + (best - score.begin()) + 1);
    const std::string next = check_layer == 0 ? "fc1.weight" : "fc2.weight";
    REQUIRE(outcome.result.touched.weights.at(next).size() == distinct.size() * (check_layer == 0 ? 12 : 9));
    REQUIRE(outcome.result.touched.weights.count("fc2.weight") == (check_layer == 0 ? 0 : 1));
  }
}

TEST_CASE("by default VeRe gets no fewer of the repair split right; by the published score it may",
          "[vere]") {
  int64_t better = 0, harmful = 0;
  for (const std::string name : {"tiny", "two_layer_tail", "sigmoid_tail"}) {
    const Network& network = name == "tiny" ? tiny_network() : head_network(name);
    const auto right = [](const Network& of) {
      return locate::judge_split(of, tiny_data().split("repair"), 50).correct.size();
    };
    const size_t before = right(network);
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      for (const bool published : {false, true}) {
        nlohmann::json parameters = kLively;
        parameters["learning_rate"] = 0.5;
        if (published) parameters.update({{"score", "published"}, {"clean", 20}});
        FixContext::Setup setup = setup_for("VERE", parameters);
        setup.seed = seed;
        const Outcome outcome = run(std::move(setup), network);
        const size_t after = right(*outcome.result.network);
        INFO(name << " seed " << seed << (published ? " published " : " ") << before << " " << after);
        harmful += published && after < before;
        if (published) continue;
        REQUIRE(outcome.log.scalars.at("clean") == static_cast<double>(before));
        REQUIRE(after >= before);
        better += after > before;
      }
    }
  }
  REQUIRE(better > 0);
  REQUIRE(harmful > 0);
}

TEST_CASE("VeRe's statuses", "[vere]") {
  const Outcome original = run(setup_for("VERE", {{"learning_rate", 0}, {"rounds", 2}}));
  REQUIRE(original.result.note.find("returned the original: no round was better") != std::string::npos);
  REQUIRE(changed_values(tiny_network(), *original.result.network).empty());
  REQUIRE(original.result.touched.weights.empty());
  const Outcome still = run(setup_for("VERE", {{"interval_factor", 0}, {"interval_start", "minimum"}}));
  REQUIRE(still.result.failure.code == "no_fix");
  FixContext::Setup stopped = setup_for("VERE");
  stopped.stop = [] { return true; };
  REQUIRE(run(std::move(stopped)).result.failure.code == "timeout");

  const Network& vgg = head_network("vgg");
  const auto adapt = [](const Network& network, const std::string& applicability, int64_t faults,
                        int64_t correct) {
    const FixContext::Setup setup = setup_for("VERE", {{"applicability", applicability}});
    const auto refusal = find_approach("VERE")->adapt({.network = &network,
                                                       .data = &tiny_data(),
                                                       .hyperparameters = setup.hyperparameters,
                                                       .shadow = setup.shadow,
                                                       .repair_faults = faults,
                                                       .repair_correct = correct});
    return refusal ? refusal->code : "";
  };
  REQUIRE(adapt(tiny_network(), "extended", 3, 3).empty());
  REQUIRE(adapt(tiny_network(), "study", 3, 3) == "structure");
  REQUIRE(adapt(vgg, "study", 3, 3).empty());
  REQUIRE(adapt(vgg, "study", 0, 3) == "no_faults");
  REQUIRE(adapt(vgg, "study", 3, 0) == "no_correct_inputs");
  const Network& flat = head_network("one_dense");
  REQUIRE(adapt(flat, "extended", 3, 3) == "structure");
}

TEST_CASE("VeRe takes consecutive blocks and is a function of its seed", "[vere]") {
  const auto digest = [](uint64_t seed) {
    nlohmann::json parameters = kLively;
    parameters.update({{"faults", 12}, {"clean", 50}, {"score", "published"}});
    FixContext::Setup setup = setup_for("VERE", parameters);
    setup.seed = seed;
    const Outcome outcome = run(std::move(setup));
    REQUIRE(outcome.log.scalars.at("faults") == 12);
    REQUIRE(outcome.log.scalars.at("clean") == 50);
    return outcome.result.network->digest();
  };
  REQUIRE(digest(1) == digest(1));
  REQUIRE(digest(1) != digest(2));
}

TEST_CASE("an interrupted VeRe goes on bit for bit", "[vere]") {
  const Network& deep = head_network("sigmoid_tail");
  for (const Network* network : {&tiny_network(), &deep}) {
    require_same_after_stops([] { return setup_for("VERE", kLively); }, *network);
    require_same_after_stops([] { return setup_for("RAND", kLively, "VERE"); }, *network);
  }
}

TEST_CASE("RAND:VERE edits other units", "[vere]") {
  const Outcome localised = run(setup_for("VERE", kLively));
  const Outcome random = run(setup_for("RAND", kLively, "VERE"));
  REQUIRE(random.log.counters.at("rounds") == localised.log.counters.at("rounds"));
  REQUIRE(random.log.series.at("unit") != localised.log.series.at("unit"));
}

}  // namespace
}  // namespace harness
