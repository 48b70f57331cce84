#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <sstream>

#include "approaches/dense_layers.hpp"
#include "approaches/locate/faults.hpp"
#include "approaches/locate/regressions.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
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

using ParameterSet = std::map<std::string, at::Tensor>;

ParameterSet set_of(const Network& network) {
  ParameterSet set;
  for (const Parameter& parameter : network.parameters()) set[parameter.name] = parameter.value.clone();
  return set;
}

// A made-up epoch before the last: every parameter a little elsewhere, the dense ones further than the
// others.
ParameterSet earlier(const Network& network = tiny_network()) {
  RandomStream stream(17);
  ParameterSet set = set_of(network);
  for (auto& [name, value] : set) {
    if (!value.is_floating_point()) continue;
    const float size = name.starts_with("fc") ? 0.25f : 0.01f;
    float* const data = value.data_ptr<float>();
    for (int64_t k = 0; k < value.numel(); ++k) data[k] += size * static_cast<float>(stream.normal());
  }
  return set;
}

Network network_of(const Network& original, const ParameterSet& set) {
  Network network = original.fork();
  for (const auto& [name, value] : set) network.set_parameter(network.find_parameter(name), value);
  return network;
}

locate::EpochEffect effect_of(const ParameterSet& before, const Network& network = tiny_network()) {
  const Split& split = tiny_data().split("repair");
  const locate::Judgement then = locate::judge_split(network_of(network, before), split, 50),
                          now = locate::judge_split(network, split, 50);
  locate::EpochEffect effect;
  for (int64_t n = 0; n < split.size(); ++n) {
    const int64_t label = split.labels()[n].item<int64_t>();
    const bool was = then.predictions[n].item<int64_t>() == label;
    const bool is = now.predictions[n].item<int64_t>() == label;
    if (was && !is) effect.regressed.push_back(n);
    if (!was && is) effect.improved.push_back(n);
  }
  return effect;
}

FixContext::Setup with_history(const nlohmann::json& parameters = nlohmann::json::object(),
                               const std::string& key = "NR") {
  FixContext::Setup setup = setup_for(key, parameters, key == "RAND" ? "NR" : "");
  setup.history = {earlier(), set_of(tiny_network())};
  return setup;
}

TEST_CASE("the largest, the first of equals first", "[neurecover]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto marks = [](const std::vector<double>& scores, int64_t count) {
    const at::Tensor chosen = locate::among_largest(at::tensor(scores, at::kDouble), count);
    return std::vector<int>(chosen.data_ptr<uint8_t>(), chosen.data_ptr<uint8_t>() + chosen.numel());
  };
  REQUIRE(marks({1, 3, 2, 3, 0}, 0) == std::vector<int>{0, 0, 0, 0, 0});
  REQUIRE(marks({1, 3, 2, 3, 0}, 1) == std::vector<int>{0, 1, 0, 0, 0});
  REQUIRE(marks({1, 3, 2, 3, 0}, 3) == std::vector<int>{0, 1, 1, 1, 0});
  REQUIRE(marks({1, 3, nan, 3, 0}, 4) == std::vector<int>{1, 1, 0, 1, 1});
  REQUIRE(marks({2, 2, 2}, 2) == std::vector<int>{1, 1, 0});
  REQUIRE(marks({2, nan, 2}, 9) == std::vector<int>{1, 1, 1});
}

// The localisation (approaches/docs/NR.md, Formulas), one number at a time, with ranks from a stable sort and
// gradients from finite differences.
struct PlainRegressions {
  const Network& network;
  const Split& split = tiny_data().split("repair");
  ParameterSet before = earlier(network);
  locate::EpochEffect effect = effect_of(before, network);
  std::string backward = "loss", delta_over = "all";

  static std::vector<double> list(const at::Tensor& tensor) {
    const at::Tensor flat = tensor.to(at::kDouble).contiguous();
    return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
  }

  double value_of(const Network& moved, const std::vector<int64_t>& inputs) const {
    const at::Tensor positions = at::tensor(inputs, at::kLong);
    const at::Tensor logits = moved.logits(split.inputs(positions)).to(at::kDouble);
    if (backward == "logit_sum") return logits.sum().item<double>();
    return at::cross_entropy_loss(logits, split.labels().index_select(0, positions), {}, at::Reduction::Sum)
        .item<double>();
  }

  std::vector<double> gradients(const TargetLayer& layer, const std::vector<int64_t>& inputs) const {
    const ParameterId kernel = layer.weight;
    std::vector<double> found;
    if (backward == "logit_sum" && layer.node == network.logits_node()) {
      // The same for every class: ties, which finite differences would break.
      const at::Tensor o = network.activations(split.inputs(at::tensor(inputs, at::kLong)), {layer.input})[0];
      return list(o.to(at::kDouble).sum(0).abs().repeat({4}));
    }
    Network moved = network.fork();
    float* const weight = moved.parameters()[kernel].value.data_ptr<float>();
    for (int64_t k = 0; k < moved.parameters()[kernel].value.numel(); ++k) {
      const float original = weight[k];
      weight[k] = original + 1e-3f;
      const double high = weight[k], above = value_of(moved, inputs);
      weight[k] = original - 1e-3f;
      found.push_back(std::abs((above - value_of(moved, inputs)) / (high - weight[k])));
      weight[k] = original;
    }
    return found;
  }

  // Mean over the inputs of |o_i w_ji|, materialised as the reference does.
  std::vector<double> forward(const TargetLayer& layer, const std::vector<int64_t>& inputs) const {
    const at::Tensor o = network.activations(split.inputs(at::tensor(inputs, at::kLong)), {layer.input})[0];
    const at::Tensor kernel = network.parameters()[layer.weight].value;
    return list((o.unsqueeze(1) * kernel.unsqueeze(0)).to(at::kDouble).abs().mean(0));
  }

  static std::set<int64_t> top(const std::vector<double>& scores, int64_t count) {
    std::vector<int64_t> order;
    for (size_t k = 0; k < scores.size(); ++k) order.push_back(static_cast<int64_t>(k));
    std::ranges::stable_sort(order, [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
    return {order.begin(), order.begin() + count};
  }

  static double mean(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  }

  std::vector<WeightRef> localised(double reduction_rate, std::vector<int64_t>* considered) const {
    const std::vector<TargetLayer> layers = dense_layers(network);
    double change = 0, worse = 0, better = 0;
    for (const Parameter& parameter : network.parameters()) {
      if (!parameter.trainable) continue;
      const bool is_kernel = parameter.name.starts_with("fc") && parameter.name.ends_with("weight");
      if (delta_over == "dense_kernels" && !is_kernel) continue;
      change += mean(list((parameter.value - before.at(parameter.name)).to(at::kDouble).abs()));
    }
    for (const TargetLayer& layer : layers) {
      worse += mean(forward(layer, effect.regressed));
      better += mean(forward(layer, effect.improved));
    }
    std::vector<WeightRef> weights;
    for (const TargetLayer& layer : layers) {
      const Parameter& kernel = network.parameters()[layer.weight];
      const std::vector<double> diff = list((kernel.value.to(at::kDouble) - before.at(kernel.name)).abs());
      const std::vector<double> up = forward(layer, effect.regressed), down = forward(layer, effect.improved);
      const double phi = mean(up) / worse, psi = mean(down) / better;
      const double suspicious = phi / (phi + psi) * mean(diff) / change;
      const auto size = static_cast<double>(diff.size());
      const auto count = static_cast<int64_t>(std::min(size, std::round(size * suspicious * reduction_rate)));
      considered->push_back(count);
      const auto of_diff = top(diff, count), of_up = top(up, count), of_down = top(down, count);
      const auto slope_up = top(gradients(layer, effect.regressed), count);
      const auto slope_down = top(gradients(layer, effect.improved), count);
      for (const int64_t k : of_diff) {
        if (of_up.contains(k) && slope_up.contains(k) && !(of_down.contains(k) && slope_down.contains(k)))
          weights.push_back({layer.weight, k});
      }
    }
    return weights;
  }
};

// Number of weights found over all settings.
size_t check_localisation(PlainRegressions& plain, int64_t tensors) {
  REQUIRE(plain.effect.regressed.size() > 1);
  REQUIRE(plain.effect.improved.size() > 1);
  size_t found_at_all = 0;
  for (const std::string backward : {"loss", "logit_sum"}) {
    for (const double rate : {1.0, 3.0, 4.5}) {
      INFO(backward << " " << rate << " " << plain.delta_over);
      plain.backward = backward;
      std::vector<int64_t> considered;
      const std::vector<WeightRef> expected = plain.localised(rate, &considered);
      for (const int64_t batch : {2, 50}) {
        const locate::RegressionWeights found = locate::regression_weights(
            plain.network, plain.before, dense_layers(plain.network), plain.split, plain.effect,
            {.backward = backward,
             .reduction_rate = rate,
             .delta_over = plain.delta_over,
             .batching = batch});
        REQUIRE(found.considered == considered);
        REQUIRE(found.rate == rate);
        REQUIRE(found.tensors == tensors);
        for (size_t l = 0; l < considered.size(); ++l) {
          const ParameterId kernel = dense_layers(plain.network)[l].weight;
          REQUIRE(found.localised[l] == std::ranges::count(expected, kernel, &WeightRef::parameter));
        }
        REQUIRE((found.weights == expected));
        found_at_all += found.weights.size();
      }
    }
  }
  return found_at_all;
}

TEST_CASE("localisation equals its steps taken one by one", "[neurecover]") {
  PlainRegressions plain{.network = tiny_network()};
  REQUIRE(check_localisation(plain, 7) > 10);
  // With batch norm, whose scales and shifts count as tensors and whose averages do not.
  PlainRegressions branched{.network = branched_network()};
  REQUIRE(check_localisation(branched, 15) > 0);
  // With the change shared among the two dense kernels alone.
  plain.delta_over = branched.delta_over = "dense_kernels";
  REQUIRE(check_localisation(plain, 2) > 10);
  REQUIRE(check_localisation(branched, 2) > 0);
}

int64_t sum(const std::vector<int64_t>& numbers) {
  return std::reduce(numbers.begin(), numbers.end());
}

// The least of rate, 2 rate, 4 rate, ... at which a weight is left, and what is left there without widening.
TEST_CASE("a rate that leaves no weight is doubled until one is left", "[neurecover]") {
  PlainRegressions plain{.network = tiny_network()};
  const auto found = [&](double rate, bool widen, const locate::EpochEffect& effect) {
    return locate::regression_weights(tiny_network(), plain.before, dense_layers(tiny_network()), plain.split,
                                      effect, {.reduction_rate = rate, .widen = widen});
  };
  int widened = 0;
  for (const double rate : {1e-6, 0.01, 0.3, 4.5}) {
    INFO(rate);
    double wanted = rate;
    while (found(wanted, false, plain.effect).weights.empty()) wanted *= 2;
    widened += wanted > rate;
    const locate::RegressionWeights wide = found(rate, true, plain.effect);
    REQUIRE(wide.rate == wanted);
    REQUIRE((wide.weights == found(wanted, false, plain.effect).weights));
  }
  REQUIRE(widened > 1);
  // Nothing is ever left where improved inputs are those that were regressed, or from a rate of 0.
  const locate::RegressionWeights none = found(1, true, {plain.effect.regressed, plain.effect.regressed});
  REQUIRE(none.weights.empty());
  REQUIRE(sum(none.considered) == 16 * 10 + 10 * 4);
  REQUIRE(found(0, true, plain.effect).weights.empty());
  REQUIRE(found(1, true, {{}, plain.effect.improved}).weights.empty());
}

TEST_CASE("without improved inputs nothing is taken away, without regressed ones nothing is found",
          "[neurecover]") {
  const ParameterSet before = earlier();
  locate::EpochEffect effect = effect_of(before);
  const auto found = [&](const locate::EpochEffect& of) {
    return locate::regression_weights(tiny_network(), before, dense_layers(tiny_network()),
                                      tiny_data().split("repair"), of, {.reduction_rate = 4.5});
  };
  const locate::RegressionWeights some = found(effect);
  const locate::RegressionWeights more = found({effect.regressed, {}});
  REQUIRE(sum(more.considered) > sum(some.considered));  // phi / (phi + 0) is 1
  REQUIRE(more.weights.size() > some.weights.size());
  REQUIRE(found({{}, effect.improved}).weights.empty());
  REQUIRE(sum(found({{}, effect.improved}).considered) == 0);
}

TEST_CASE("the gradient of the softmax's sum is rounding alone", "[neurecover]") {
  const ParameterSet before = earlier();
  const auto found = [&](const std::string& backward) {
    return locate::regression_weights(tiny_network(), before, dense_layers(tiny_network()),
                                      tiny_data().split("repair"), effect_of(before),
                                      {.backward = backward, .reduction_rate = 4.5});
  };
  REQUIRE(found("compat").considered == found("loss").considered);
  REQUIRE((found("compat").weights != found("loss").weights));
}

// The fitness (approaches/docs/NR.md, Formulas) by running a whole network on the inputs that the log cannot
// tell: all positives.
double fitness(const Network& network, double alpha, bool compat_sizes) {
  const Split& split = tiny_data().split("repair");
  const locate::Judgement judgement = locate::judge_split(tiny_network(), split, 50);
  const at::Tensor logits = network.logits(split.inputs(0, split.size())).to(at::kDouble);
  const at::Tensor losses = at::cross_entropy_loss(logits, split.labels(), {}, at::Reduction::None);
  const auto term = [&](const std::vector<int64_t>& of) {
    double right = 0, loss = 0;
    for (const int64_t n : of) {
      right += logits[n].argmax().item<int64_t>() == split.labels()[n].item<int64_t>();
      loss += losses[n].item<double>();
    }
    const auto size = static_cast<double>(of.size());
    return (right / (compat_sizes ? 2 : size) + 1) / (loss / size + 1);
  };
  return term(judgement.wrong) + alpha * term(judgement.correct);
}

const nlohmann::json kWide = {{"reduction_rate", 4.5}, {"positives", 0}};

TEST_CASE("NR's fitness is its formula's, and nothing but the localised weights changes", "[neurecover]") {
  for (const bool compat : {false, true}) {
    for (const double alpha : {1.0, 0.25}) {
      nlohmann::json parameters = kWide;
      parameters.update({{"keep_original", false}, {"compat_sizes", compat}, {"alpha", alpha}});
      const Outcome outcome = run(with_history(parameters));
      REQUIRE(outcome.result.network.has_value());
      const FixLog& log = outcome.log;
      REQUIRE(log.scalars.at("original_fitness") ==
              Approx(fitness(tiny_network(), alpha, compat)).epsilon(1e-5));
      REQUIRE(log.scalars.at("best_fitness") ==
              Approx(fitness(*outcome.result.network, alpha, compat)).epsilon(1e-5));
      REQUIRE(log.scalars.at("best_fitness") == log.series.at("best_fitness").back());
      REQUIRE(log.series.at("best_fitness").size() == static_cast<size_t>(log.counters.at("iterations")) + 1);
      REQUIRE(log.counters.at("evaluations") == 100 * (log.counters.at("iterations") + 1));
      REQUIRE(log.scalars.at("deg") == static_cast<double>(effect_of(earlier()).regressed.size()));
      REQUIRE(log.scalars.at("imp") == static_cast<double>(effect_of(earlier()).improved.size()));
      REQUIRE(log.scalars.at("localised") > 0);
      REQUIRE(log.scalars.at("considered") > log.scalars.at("localised"));
      REQUIRE(log.scalars.at("tensors") == 7);
      const locate::Judgement after =
          locate::judge_split(*outcome.result.network, tiny_data().split("repair"), 50);
      REQUIRE(log.scalars.at("n_patched") + log.scalars.at("n_intact") ==
              static_cast<double>(after.correct.size()));
      const auto changed = changed_values(tiny_network(), *outcome.result.network);
      REQUIRE(static_cast<double>(changed.size()) == log.scalars.at("localised"));
      for (const auto& [name, index] : changed) {
        const std::vector<int64_t>& indices = outcome.result.touched.weights.at(name);
        REQUIRE(std::count(indices.begin(), indices.end(), index) == 1);
      }
    }
  }
}

TEST_CASE("NR returns the original rather than something worse", "[neurecover]") {
  // One random particle, not moved, is no better than the original.
  nlohmann::json hopeless = kWide;
  hopeless.update({{"particles", 1}, {"iterations", 0}});
  const Outcome kept = run(with_history(hopeless));
  REQUIRE(kept.log.scalars.at("best_fitness") < kept.log.scalars.at("original_fitness"));
  REQUIRE(kept.result.note == "returned the original: no candidate was better");
  REQUIRE(changed_values(tiny_network(), *kept.result.network).empty());
  REQUIRE(kept.result.touched.weights.empty());
  hopeless["keep_original"] = false;
  const Outcome changed = run(with_history(hopeless));
  REQUIRE(changed.result.note.empty());
  REQUIRE_FALSE(changed_values(tiny_network(), *changed.result.network).empty());
}

TEST_CASE("NR improves its fitness where the faults weigh enough", "[neurecover]") {
  nlohmann::json parameters = kWide;
  parameters.update({{"alpha", 0.1}});
  const Outcome outcome = run(with_history(parameters));
  REQUIRE(outcome.log.scalars.at("best_fitness") > outcome.log.scalars.at("original_fitness"));
  REQUIRE(outcome.log.scalars.at("n_patched") > 0);
  REQUIRE(outcome.result.note.empty());
}

TEST_CASE("NR widens its rate and says so", "[neurecover]") {
  const nlohmann::json narrow = {{"reduction_rate", 0.01}, {"iterations", 1}, {"particles", 4}};
  const Outcome outcome = run(with_history(narrow));
  REQUIRE(outcome.result.network.has_value());
  const double rate = outcome.log.scalars.at("rate");
  REQUIRE(rate > 0.01);
  std::ostringstream note;
  note << "reduction_rate 0.01 left no weight and was widened to " << rate;
  REQUIRE(outcome.result.note.find(note.str()) != std::string::npos);
  for (const std::string name : {"considered", "localised"}) {
    const std::vector<double>& of_layer = outcome.log.series.at(name + "_of_layer");
    REQUIRE(of_layer.size() == 2);
    REQUIRE(outcome.log.scalars.at(name) == of_layer[0] + of_layer[1]);
  }
  nlohmann::json strict = narrow;
  strict["widen"] = false;
  REQUIRE(run(with_history(strict)).result.failure.code == "no_fix");
  require_same_after_stops([&] {
    return with_history({{"reduction_rate", 0.01}, {"positives", 50}, {"particles", 20}});
  });
}

TEST_CASE("NR's statuses", "[neurecover]") {
  const auto failure = [](FixContext::Setup given) {
    const Outcome outcome = run(std::move(given));
    REQUIRE_FALSE(outcome.result.network.has_value());
    REQUIRE(outcome.result.failure.code == "no_fix");
    return outcome.result.failure.text;
  };
  FixContext::Setup same = with_history();
  same.history[0] = same.history[1];
  REQUIRE(failure(std::move(same)) == "the last epoch made no input of the repair split worse");
  REQUIRE(failure(with_history({{"reduction_rate", 0.0}})).find("no weight is suspicious") == 0);
  FixContext::Setup stopped = with_history(kWide);
  stopped.stop = [] { return true; };
  REQUIRE(run(std::move(stopped)).result.failure.code == "timeout");
}

TEST_CASE("NR draws its positives with replacement, from its seed", "[neurecover]") {
  nlohmann::json parameters = kWide;
  parameters.update({{"positives", 200}, {"keep_original", false}, {"iterations", 3}});
  const auto outcome = [&](uint64_t seed) {
    FixContext::Setup setup = with_history(parameters);
    setup.seed = seed;
    return run(std::move(setup));
  };
  const Outcome one = outcome(1);
  REQUIRE(one.log.scalars.at("n_intact") > 100);  // of 200 drawn from 100
  REQUIRE(one.result.network->digest() == outcome(1).result.network->digest());
  REQUIRE(one.result.network->digest() != outcome(2).result.network->digest());
}

TEST_CASE("an interrupted NR goes on bit for bit", "[neurecover]") {
  nlohmann::json parameters = kWide;
  parameters.update({{"positives", 50}, {"particles", 20}});
  require_same_after_stops([&] { return with_history(parameters, "NR"); });
  require_same_after_stops([&] { return with_history(parameters, "RAND"); });
}

TEST_CASE("RAND:NR searches as many other weights of the dense layers", "[neurecover]") {
  nlohmann::json parameters = kWide;
  parameters.update({{"keep_original", false}, {"iterations", 3}});
  const Outcome localised = run(with_history(parameters));
  const Outcome random = run(with_history(parameters, "RAND"));
  size_t count[2] = {0, 0};
  for (const auto& [name, indices] : localised.result.touched.weights) count[0] += indices.size();
  for (const auto& [name, indices] : random.result.touched.weights) {
    REQUIRE(name.starts_with("fc"));
    count[1] += indices.size();
  }
  REQUIRE(count[0] == count[1]);
  REQUIRE(random.result.touched.weights != localised.result.touched.weights);
}

}  // namespace
}  // namespace harness
