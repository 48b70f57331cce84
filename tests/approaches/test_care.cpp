#include <cmath>
#include <set>

#include "approaches/dense_layers.hpp"
#include "approaches/locate/faults.hpp"
#include "approaches/locate/interventions.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/locate/watched_pass.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/approaches/pretend_device.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::branched_network;
using testing::changed_values;
using testing::MemorySlot;
using testing::Outcome;
using testing::require_same_after_stops;
using testing::run;
using testing::setup_for;
using testing::tiny_data;
using testing::tiny_network;

// The cost (approaches/docs/CARE.md, Formulas), with the repair split's faults and another's correct ones;
// `weight`: of the rate of the latter.
double cost(const Network& network, double weight, const std::string& positives) {
  const auto rate = [&](const std::string& name, bool wrong) {
    const Split& split = tiny_data().split(name);
    const locate::Judgement before = locate::judge_split(tiny_network(), split, 50),
                            after = locate::judge_split(network, split, 50);
    double misses = 0;
    const std::vector<int64_t>& of = wrong ? before.wrong : before.correct;
    for (const int64_t n : of)
      misses += static_cast<double>(std::count(after.wrong.begin(), after.wrong.end(), n));
    return misses / static_cast<double>(of.size());
  };
  return rate("repair", true) + weight * rate(positives, false);
}

// Much weight on the faults, so that something better than the original is found.
nlohmann::json with_weight(nlohmann::json parameters) {
  parameters.update({{"alpha", 0.1}, {"weighting", "rates"}});
  return parameters;
}

search::SearchInputs some_inputs(const Network& network) {
  return search::SearchInputs(network, {{&tiny_data().split("repair"), {0, 6, 12, 30, 66}, true},
                                        {&tiny_data().split("train"), {1, 2, 3, 4, 50, 51}, false}});
}

std::vector<locate::UnitEffects> effects_on(const Network& network, const std::vector<TargetLayer>& layers,
                                            const search::SearchInputs& inputs,
                                            const locate::InterventionSettings& settings) {
  locate::UnitValues values(network, layers);
  values.collect(inputs, settings.batch);
  return locate::intervention_effects(values, settings);
}

// Mean over the negatives of 1 - p(label), the unit being forced by a real run of everything behind it. In
// this network nothing but the layer reads its input.
double forced_effect(const Network& network, const TargetLayer& layer, int64_t unit, double value) {
  const search::SearchInputs inputs = some_inputs(network);
  const at::Tensor numbers = inputs.negative().nonzero().flatten();
  const Cut cut = network.cut_before(layer.node);
  std::vector<at::Tensor> live = network.prefix(cut, inputs.load(numbers));
  const size_t at = std::find(cut.live.begin(), cut.live.end(), layer.input) - cut.live.begin();
  live[at] = live[at].clone();
  live[at].select(1, unit).fill_(value);
  const at::Tensor probabilities = network.suffix(cut, live).to(at::kDouble).softmax(1);
  double sum = 0;
  for (int64_t n = 0; n < numbers.numel(); ++n)
    sum += 1 - probabilities[n][inputs.labels()[numbers[n].item<int64_t>()].item<int64_t>()].item<double>();
  return sum / static_cast<double>(numbers.numel());
}

// `effect` gives the brute-force mean for a layer, unit and value.
template <typename Effect>
void check_effects(const Network& network, const Effect& effect_of) {
  const std::vector<TargetLayer> layers = dense_layers(network);
  const search::SearchInputs inputs = some_inputs(network);
  const at::Tensor x = inputs.load(at::arange(inputs.size()));
  for (const int64_t batch : {2, 50}) {
    const auto found = effects_on(network, layers, inputs, {.values = 3, .batch = batch});
    REQUIRE(found.size() == layers.size());
    for (size_t l = 0; l < layers.size(); ++l) {
      const at::Tensor units = network.activations(x, {layers[l].input})[0];
      REQUIRE(at::allclose(found[l].low, units.amin(0)));
      REQUIRE(at::allclose(found[l].high, units.amax(0)));
      const at::Tensor range = locate::unit_scores(found[l], "range");
      const at::Tensor deviation = locate::unit_scores(found[l], "mean_abs_dev");
      REQUIRE(range.max().item<double>() > 0.01);
      for (int64_t i = 0; i < units.size(1); ++i) {
        const double low = units.select(1, i).min().item<double>();
        const double high = units.select(1, i).max().item<double>();
        double effect[3], mean = 0, distance = 0;
        for (int t = 0; t < 3; ++t) {
          effect[t] = effect_of(layers[l], i, low + (high - low) * t / 2);
          mean += effect[t] / 3;
          REQUIRE(found[l].effects[i][t].item<double>() == Approx(effect[t]).margin(2e-6));
        }
        for (const double value : effect) distance += std::abs(value - mean) / 3;
        const double maximum = std::max({effect[0], effect[1], effect[2]});
        const double min_value = std::min({effect[0], effect[1], effect[2]});
        REQUIRE(range[i].item<double>() == Approx(maximum - min_value).margin(4e-6));
        REQUIRE(deviation[i].item<double>() == Approx(distance).margin(4e-6));
      }
    }
  }
}

TEST_CASE("effects of interventions equal those of running the network", "[care]") {
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    REQUIRE(dense_layers(*network).size() == 2);
    check_effects(*network, [&](const TargetLayer& layer, int64_t unit, double value) {
      return forced_effect(*network, layer, unit, value);
    });
  }
}

// Dense layers with a skip connection, many classes (the data has four of them), logits at the end.
Network skipping_network() {
  const testing::TemporaryFolder folder;
  std::string program = R"(
import torch
from torch import nn

class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(128, 8)
        self.fc2 = nn.Linear(8, 8)
        self.head = nn.Linear(8, 20)
    def forward(self, x):
        h = torch.relu(self.fc1(torch.flatten(x, 1)))
        return self.head(h + torch.tanh(self.fc2(h)))

torch.manual_seed(3)
net = Skipping().eval()
with torch.no_grad():
    for p in net.parameters():
        p.mul_(3)
torch.jit.script(net).save('@')
)";
  program.replace(program.find('@'), 1, (folder / "skipping.pt").string());
  testing::run_python(program);
  return Network::load(folder / "skipping.pt", tiny_data().split("repair").inputs(0, 3));
}

TEST_CASE("a unit is forced for its layer alone", "[care]") {
  const Network network = skipping_network();
  const search::SearchInputs inputs = some_inputs(network);
  const at::Tensor numbers = inputs.negative().nonzero().flatten();
  const auto dense = [&](const std::string& name, const at::Tensor& x) {
    return at::linear(x, network.parameters()[network.find_parameter(name + ".weight")].value.to(at::kDouble),
                      network.parameters()[network.find_parameter(name + ".bias")].value.to(at::kDouble));
  };
  check_effects(network, [&](const TargetLayer& layer, int64_t unit, double value) {
    const std::string forced = network.nodes()[layer.node].name;
    const auto run_layer = [&](const std::string& name, const at::Tensor& x) {
      const at::Tensor input = x.clone();
      if (name == forced) input.select(1, unit).fill_(value);
      return dense(name, input);
    };
    const at::Tensor x = inputs.load(numbers).flatten(1).to(at::kDouble);
    const at::Tensor h = run_layer("fc1", x).relu();
    const at::Tensor p = run_layer("head", h + run_layer("fc2", h).tanh()).softmax(1);
    return (1 - p.gather(1, inputs.labels().index_select(0, numbers).unsqueeze(1))).mean().item<double>();
  });
}

TEST_CASE("CARE on many classes that end in logits", "[care]") {
  const Network network = skipping_network();
  for (const std::string layers : {"last", "all_dense"}) {
    FixContext context(setup_for("CARE", {{"layers", layers}, {"w", 1}, {"ftol", 0}}));
    const FixResult result = find_approach("CARE")->fix(network, context);
    REQUIRE(context.log().scalars.at("best_fitness") > context.log().scalars.at("original_fitness"));
    REQUIRE_FALSE(changed_values(network, *result.network).empty());
  }
}

TEST_CASE("constant units score nothing, and interventions stop when told to", "[care]") {
  const at::Tensor low = at::tensor({1.f, 0.f}), high = at::tensor({1.f, 2.f});
  const at::Tensor effects = at::tensor({0.1, 0.3, 0.2, 0.6}, at::kDouble).view({2, 2});
  REQUIRE(
      locate::unit_scores({low, high, effects}, "range").equal(at::tensor({0.0, 0.6 - 0.2}, at::kDouble)));
  std::vector<double> seen;
  const auto found = effects_on(tiny_network(), dense_layers(tiny_network()), some_inputs(tiny_network()),
                                {.batch = 2, .go_on = [&](double done) {
                                   seen.push_back(done);
                                   return seen.size() < 4;
                                 }});
  REQUIRE(found.empty());
  REQUIRE(seen.size() == 4);
  REQUIRE(std::ranges::is_sorted(seen));
  REQUIRE((seen.front() == 0 && seen.back() > 0 && seen.back() < 1));
}

// What judging passes collect on the way is what a pass of its own over the same inputs sees, and they judge
// as plain passes do.
TEST_CASE("values for interventions come from the passes that judge the inputs", "[care]") {
  const Split &repair = tiny_data().split("repair"), &train = tiny_data().split("train");
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    const std::vector<TargetLayer> layers = dense_layers(*network);
    locate::UnitValues on_the_way(*network, layers), apart(*network, layers);
    const locate::Judgement judgement =
        locate::judge_split(*network, repair, 7, on_the_way.watch_negatives());
    const locate::Judgement plain = locate::judge_split(*network, repair, 50);
    REQUIRE(judgement.predictions.equal(plain.predictions));
    REQUIRE(judgement.wrong == plain.wrong);
    RandomStream one(3), two(3);
    const std::vector<int64_t> correct =
        locate::correct_inputs(*network, train, 30, 7, one, on_the_way.watch_positives());
    REQUIRE(correct == locate::correct_inputs(*network, train, 30, 50, two));
    const std::vector<int64_t> numbers = {1, 4, 5};
    std::vector<int64_t> negatives;
    for (const int64_t k : numbers) negatives.push_back(judgement.wrong.at(static_cast<size_t>(k)));
    REQUIRE(on_the_way.take_negatives(numbers,
                                      repair.labels().index_select(0, locate::position_table(negatives))));
    apart.collect(search::SearchInputs(*network, {{&repair, negatives, true}, {&train, correct, false}}), 9);
    REQUIRE(on_the_way.labels().equal(apart.labels()));
    for (size_t l = 0; l < layers.size(); ++l) {
      REQUIRE(at::allclose(on_the_way.layers()[l].low, apart.layers()[l].low));
      REQUIRE(at::allclose(on_the_way.layers()[l].high, apart.layers()[l].high));
      for (const NodeId id : {layers[l].input, layers[l].node}) {
        REQUIRE(on_the_way.value(id).size(0) == 3);
        REQUIRE(at::allclose(on_the_way.value(id), apart.value(id), 1e-5, 1e-6));
      }
    }
  }
}

TEST_CASE("few more inputs are judged than it takes to find correct ones", "[care]") {
  RandomStream one(3), two(3);
  int64_t judged = 0;
  const locate::PassWatch counting{
      {tiny_network().logits_node()},
      [&](const at::Tensor&, const std::vector<at::Tensor>& values) { judged += values[0].size(0); }};
  const Split& train = tiny_data().split("train");
  const std::vector<int64_t> few = locate::correct_inputs(tiny_network(), train, 8, 50, one, counting);
  REQUIRE(few.size() == 8);
  REQUIRE(few == locate::correct_inputs(tiny_network(), train, 8, 1, two));
  REQUIRE(judged <= 24);
}

// The tiny network has one tanh, so its calls are the batches that went through the network.
TEST_CASE("CARE's localisation runs the network on no image again that was judged", "[care]") {
  Network network = tiny_network().fork();
  network.to(testing::pretend_device());
  FixContext::Setup setup = setup_for("CARE", {{"positives", 0}, {"iterations", 1}});
  setup.batch = 10;
  int64_t batches = 0;
  setup.progress = [&](double, const std::string& what) {
    if (what == "localise") batches += testing::take_pretended_calls()["aten::tanh"];
  };
  testing::take_pretended_calls();
  run(std::move(setup), network);
  REQUIRE(batches == 120 / 10 + 10);  // the repair split, and 96 images of the train split
}

TEST_CASE("samples of correct inputs", "[care]") {
  const Split& split = tiny_data().split("train");
  const std::vector<int64_t> correct = locate::judge_split(tiny_network(), split, 50).correct;
  REQUIRE(correct.size() == 80);
  RandomStream one(3), two(3), other(4);
  const std::vector<int64_t> some = locate::correct_inputs(tiny_network(), split, 30, 16, one);
  REQUIRE(some.size() == 30);
  REQUIRE(std::ranges::includes(correct, some));
  REQUIRE(std::ranges::adjacent_find(some) == some.end());
  REQUIRE(some == locate::correct_inputs(tiny_network(), split, 30, 7, two));  // the batch does not matter
  REQUIRE(some != locate::correct_inputs(tiny_network(), split, 30, 16, other));
  REQUIRE(locate::correct_inputs(tiny_network(), split, 0, 16, one) == correct);
  REQUIRE(locate::correct_inputs(tiny_network(), split, 500, 16, one) == correct);
  REQUIRE(locate::draw_at_most(correct, 0, one) == correct);
  REQUIRE(locate::draw_at_most(correct, 80, one) == correct);
  const std::vector<int64_t> few = locate::draw_at_most(correct, 5, one);
  REQUIRE(few.size() == 5);
  REQUIRE(std::ranges::includes(correct, few));
}

TEST_CASE("CARE lowers its cost and changes nothing but the columns of its units", "[care]") {
  // Lively particles, as the tiny network's answers hardly depend on multipliers near 1; and much weight on
  // the faults.
  for (const std::string layers : {"last", "all_dense"}) {
    for (const std::string score : {"range", "mean_abs_dev"}) {
      INFO(layers << " " << score);
      const Outcome outcome =
          run(setup_for("CARE", with_weight({{"layers", layers}, {"score", score}, {"ftol", 0}, {"w", 1}})));
      REQUIRE(outcome.result.network.has_value());
      REQUIRE(outcome.log.scalars.at("negatives") == 20);
      REQUIRE(outcome.log.scalars.at("positives_from_train") == 80);
      REQUIRE(outcome.log.scalars.at("units") == 5);
      REQUIRE(outcome.log.scalars.at("best_fitness") > outcome.log.scalars.at("original_fitness"));
      REQUIRE(outcome.log.scalars.at("original_fitness") == -1);
      const double weight = 0.1 / 0.9;
      REQUIRE(outcome.log.scalars.at("positive_weight") == Approx(weight));
      REQUIRE(outcome.log.scalars.at("best_fitness") ==
              Approx(-cost(*outcome.result.network, weight, "train")));
      REQUIRE(outcome.log.series.at("best_fitness").front() == outcome.log.scalars.at("original_fitness"));
      REQUIRE(outcome.log.counters.at("evaluations") == 20 * outcome.log.counters.at("iterations"));
      REQUIRE(outcome.log.phases.count("localise") + outcome.log.phases.count("search") == 2);
      const auto changed = changed_values(tiny_network(), *outcome.result.network);
      REQUIRE_FALSE(changed.empty());
      for (const auto& [name, index] : changed) {
        const std::vector<int64_t>& indices = outcome.result.touched.weights.at(name);
        REQUIRE(std::count(indices.begin(), indices.end(), index) == 1);
      }
      if (layers == "all_dense") continue;
      // The last kernel is (4, 10): column k of it, times the multiplier.
      const at::Tensor before = tiny_network().parameters()[dense_layers(tiny_network())[1].weight].value;
      const at::Tensor after =
          outcome.result.network->parameters()[dense_layers(tiny_network())[1].weight].value;
      REQUIRE(outcome.result.touched.weights.at("fc2.weight").size() == 20);
      for (size_t k = 0; k < 5; ++k) {
        const auto unit = static_cast<int64_t>(outcome.log.series.at("unit")[k]);
        const double multiplier = outcome.log.series.at("multiplier")[k];
        REQUIRE((multiplier >= -10 && multiplier <= 10));
        REQUIRE(at::allclose(after.select(1, unit), before.select(1, unit) * multiplier));
      }
    }
  }
}

// One more broken input of what `weighting` counts costs as much as alpha / (1 - alpha) faults do.
TEST_CASE("CARE weighs broken inputs of the population, of the samples, or their rates", "[care]") {
  const double odds = 0.2 / 0.8;
  const std::map<std::string, double> expected = {
      {"population", odds * 100 / 20}, {"per_input", odds * 60 / 8}, {"rates", odds}};
  std::set<double> best;
  for (const auto& [weighting, weight] : expected) {
    INFO(weighting);
    const nlohmann::json parameters = {
        {"alpha", 0.2}, {"weighting", weighting}, {"negatives", 8}, {"positives", 60}, {"ftol", 0}, {"w", 1}};
    const Outcome outcome = run(setup_for("CARE", parameters));
    const std::map<std::string, double>& scalars = outcome.log.scalars;
    REQUIRE(scalars.at("repair_faults") == 20);
    REQUIRE(scalars.at("repair_correct") == 100);
    REQUIRE(scalars.at("positive_weight") == Approx(weight));
    REQUIRE(scalars.at("original_fitness") == -1);
    REQUIRE(scalars.at("best_fitness") ==
            Approx(scalars.at("negatives_fixed") / 8 - 1 - weight * scalars.at("positives_broken") / 60));
    best.insert(scalars.at("best_fitness"));
  }
  REQUIRE(best.size() == 3);
}

TEST_CASE("CARE takes the units with the largest effect", "[care]") {
  const std::vector<TargetLayer> layers = dense_layers(tiny_network());
  const locate::Judgement judgement = locate::judge_split(tiny_network(), tiny_data().split("repair"), 50);
  const std::vector<int64_t> train =
      locate::judge_split(tiny_network(), tiny_data().split("train"), 50).correct;
  const search::SearchInputs inputs(tiny_network(), {{&tiny_data().split("repair"), judgement.wrong, true},
                                                     {&tiny_data().split("train"), train, false}});
  const auto effects = effects_on(tiny_network(), {layers[1]}, inputs, {});
  at::Tensor score = locate::unit_scores(effects[0], "range");
  const Outcome outcome = run(setup_for("CARE", {{"units", 3}, {"iterations", 1}}));
  for (const double unit : outcome.log.series.at("unit")) {
    REQUIRE(static_cast<int64_t>(unit) == score.argmax().item<int64_t>());
    score[static_cast<int64_t>(unit)] = -1;
  }
  REQUIRE(outcome.log.series.at("unit").size() == 3);
}

TEST_CASE("CARE returns the original where nothing is better", "[care]") {
  const Outcome outcome = run(setup_for("CARE", {{"iterations", 1}}));  // all particles are the original
  REQUIRE(outcome.result.note == "returned the original: no candidate was better");
  REQUIRE(changed_values(tiny_network(), *outcome.result.network).empty());
  REQUIRE(outcome.result.touched.weights.empty());
  REQUIRE(outcome.log.counters.at("evaluations") == 20);
}

TEST_CASE("CARE's caps and statuses", "[care]") {
  const Outcome capped = run(setup_for("CARE", {{"negatives", 7}, {"positives", 9}, {"iterations", 2}}));
  REQUIRE(capped.log.scalars.at("negatives") == 7);
  REQUIRE(capped.log.scalars.at("positives_from_train") == 9);
  FixContext::Setup stopped = setup_for("CARE");
  stopped.stop = [] { return true; };
  REQUIRE(run(std::move(stopped)).result.failure.code == "timeout");
  const FixContext::Setup setup = setup_for("CARE");
  const auto adapt = [&](std::optional<int64_t> faults) {
    return find_approach("CARE")->adapt({.network = &tiny_network(),
                                         .data = &tiny_data(),
                                         .hyperparameters = setup.hyperparameters,
                                         .repair_faults = faults});
  };
  REQUIRE_FALSE(adapt(3).has_value());
  REQUIRE(adapt(0)->code == "no_faults");
}

TEST_CASE("CARE is a function of its seed", "[care]") {
  const auto digest = [](uint64_t seed) {
    FixContext::Setup setup = setup_for("CARE", with_weight({}));
    setup.seed = seed;
    return run(std::move(setup)).result.network->digest();
  };
  REQUIRE(digest(1) == digest(1));
  REQUIRE(digest(1) != digest(2));
}

TEST_CASE("an interrupted CARE goes on bit for bit", "[care]") {
  const nlohmann::json parameters = with_weight({{"positives", 40}, {"negatives", 15}});
  require_same_after_stops([&] { return setup_for("CARE", parameters); });
  require_same_after_stops([&] { return setup_for("RAND", parameters, "CARE"); });
}

TEST_CASE("RAND:CARE multiplies as many other units", "[care]") {
  const Outcome localised = run(setup_for("CARE"));
  const Outcome random = run(setup_for("RAND", nlohmann::json::object(), "CARE"));
  REQUIRE(random.log.scalars.at("units") == localised.log.scalars.at("units"));
  REQUIRE(random.log.scalars.at("original_fitness") == localised.log.scalars.at("original_fitness"));
  REQUIRE(random.log.series.at("unit") != localised.log.series.at("unit"));
  std::vector<double> units = random.log.series.at("unit");
  std::ranges::sort(units);
  REQUIRE(std::ranges::adjacent_find(units) == units.end());
}

}  // namespace
}  // namespace harness
