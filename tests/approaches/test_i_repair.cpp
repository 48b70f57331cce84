#include "approaches/batches.hpp"
#include "approaches/locate/faults.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/train/masked.hpp"
#include "harness/model/autograd.hpp"
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
using testing::require_same_from_checkpoints;
using testing::run;
using testing::setup_for;
using testing::tiny_data;
using testing::tiny_network;

// The loop of IR (approaches/docs/IR.md, Formulas and Steps in this project), step by step, with
// whole-network autograd and one tensor per parameter.
struct Plain {
  Network network;
  std::map<std::string, at::Tensor> moved;
};
Plain plain_i_repair(const Network& original, FixContext& context, double gamma, double rate, int steps) {
  Plain plain{original.fork(), {}};
  const Split &repair = context.split("repair"), &validation = context.split("validation");
  const std::vector<int64_t> wrong = locate::judge_split(original, repair, 50).wrong;
  RandomStream stream = context.stream("general");
  const std::vector<int64_t> correct = locate::correct_of_each_class(original, validation, 4, 50, stream);
  const InputSet s{&repair, wrong}, g{&validation, correct};
  const at::Tensor xs = s.load(0, s.size(), at::kCPU), ys = s.labels(0, s.size(), at::kCPU);
  const at::Tensor xg = g.load(0, g.size(), at::kCPU), yg = g.labels(0, g.size(), at::kCPU);
  plain.network.require_grad(true);
  std::vector<at::Tensor> weights, squares;
  std::vector<std::string> names;
  for (const ParameterId id : train::trainable_parameters(original)) {
    names.push_back(original.parameters()[id].name);
    weights.push_back(plain.network.parameters()[id].value);
    squares.push_back(at::zeros_like(weights.back()));
    plain.moved[names.back()] = at::zeros_like(weights.back(), at::kBool).detach();
  }
  const auto gradients = [&](const at::Tensor& loss) { return grad({loss}, weights); };
  for (int step = 0; step < steps; ++step) {
    const at::Tensor zs = plain.network.differentiable_logits(xs);
    const at::Tensor zg = plain.network.differentiable_logits(xg);
    const at::Tensor left = (zs.argmax(1) != ys).nonzero().flatten();
    if (left.numel() == 0) break;
    const auto of_general = gradients(plain.network.differentiable_logits(xg).abs().sum(1).mean());
    const auto of_specific = gradients(at::cross_entropy_loss(
        plain.network.differentiable_logits(xs.index_select(0, left)), ys.index_select(0, left)));
    const auto update = gradients(at::cross_entropy_loss(at::cat({zg, zs}), at::cat({yg, ys})));
    const at::NoGradGuard constant;
    for (size_t k = 0; k < weights.size(); ++k) {
      const at::Tensor score = (of_specific[k].abs() + 1e-8) / (gamma * of_general[k].abs() + 1e-8);
      const at::Tensor masked = update[k] * (score >= 1).to(at::kFloat);
      plain.moved[names[k]].logical_or_(score >= 1);
      squares[k] = 0.99 * squares[k] + 0.01 * masked * masked;
      weights[k].sub_(rate * masked / (squares[k].sqrt() + 1e-8));
    }
  }
  plain.network.require_grad(false);
  return plain;
}

TEST_CASE("IR follows the published loop", "[ir]") {
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    for (const double gamma : {0.2, 1.0}) {
      for (const int steps : {1, 4}) {
        INFO("gamma " << gamma << ", steps " << steps);
        const nlohmann::json parameters = {{"gamma", gamma}, {"max_iters", steps}, {"learning_rate", 1e-3}};
        FixContext context(setup_for("IR", parameters));
        const Plain plain = plain_i_repair(*network, context, gamma, 1e-3, steps);
        const FixResult fixed = find_approach("IR")->fix(*network, context);
        if (!fixed.network) {
          REQUIRE(fixed.failure.code == "no_fix");
          REQUIRE(context.log().scalars.at("specific_repaired") == 0);
          continue;
        }
        REQUIRE(context.log().counters.at("optimiser_steps") == steps);
        for (const ParameterId id : train::trainable_parameters(*network)) {
          const std::string& name = network->parameters()[id].name;
          const at::Tensor &one = fixed.network->parameters()[id].value,
                           &two = plain.network.parameters()[id].value;
          INFO(name);
          REQUIRE(at::allclose(one, two, 1e-4, 1e-5));
          // Declared exactly: the weights that some mask let move.
          const auto declared = fixed.touched.weights.find(name);
          const int64_t expected = plain.moved.at(name).sum().item<int64_t>();
          if (expected == 0) {
            REQUIRE(declared == fixed.touched.weights.end());
            continue;
          }
          const auto count = static_cast<int64_t>(declared->second.size());
          REQUIRE((count == 0 ? one.numel() : count) == expected);
        }
      }
    }
  }
}

TEST_CASE("IR changes nothing but what it declares", "[ir]") {
  for (const std::string key : {"IR", "RAND"}) {
    const nlohmann::json parameters = {{"max_iters", 25}, {"learning_rate", 1e-3}};
    const Outcome outcome = run(setup_for(key, parameters, key == "RAND" ? "IR" : ""), branched_network());
    REQUIRE(outcome.result.network.has_value());
    const auto changed = changed_values(branched_network(), *outcome.result.network);
    REQUIRE_FALSE(changed.empty());
    for (const auto& [name, index] : changed) {
      REQUIRE(name.find("running") == std::string::npos);  // batch norm stays frozen
      const std::vector<int64_t>& declared = outcome.result.touched.weights.at(name);
      REQUIRE((declared.empty() || std::ranges::count(declared, index) == 1));
    }
    REQUIRE(outcome.log.scalars.at("moved") > 0);
    REQUIRE(outcome.log.scalars.at("specific_repaired") > 0);
    REQUIRE(outcome.log.series.at("mask_density").size() == 2);
  }
}

TEST_CASE("larger gamma lets fewer weights move, none and zero let all", "[ir]") {
  const auto density = [](const nlohmann::json& parameters) {
    return run(setup_for("IR", parameters)).log.series.at("mask_density").front();
  };
  double before = 1;
  for (const double gamma : {0.0, 0.1, 1.0, 10.0}) {
    const double now = density({{"gamma", gamma}, {"max_iters", 1}});
    REQUIRE((gamma == 0 ? now == 1 : now < before));
    before = now;
  }
  const nlohmann::json zero = {{"gamma", 0}, {"max_iters", 30}, {"learning_rate", 1e-3}};
  const nlohmann::json none = {{"masks", "none"}, {"max_iters", 30}, {"learning_rate", 1e-3}};
  REQUIRE(run(setup_for("IR", zero)).result.network->digest() ==
          run(setup_for("IR", none)).result.network->digest());
}

TEST_CASE("IR stops when nothing is wrong any more, with tau at that margin", "[ir]") {
  for (const double tau : {0.0, 0.3}) {
    const nlohmann::json parameters = {
        {"gamma", 0.05}, {"tau", tau}, {"max_iters", 3000}, {"learning_rate", 3e-3}, {"max_specific", 6}};
    const Outcome outcome = run(setup_for("IR", parameters));
    REQUIRE(outcome.log.scalars.at("specific") == 6);
    REQUIRE(outcome.log.scalars.at("specific_repaired") == 6);
    REQUIRE(outcome.log.counters.at("optimiser_steps") < 3000);
    const Split& repair = tiny_data().split("repair");
    const std::vector<int64_t> wrong = locate::judge_split(tiny_network(), repair, 50).wrong;
    int64_t sure = 0;
    for (const int64_t n : wrong) {
      const at::Tensor p = outcome.result.network->probabilities(repair.inputs(n, n + 1))[0];
      const int64_t label = repair.labels()[n].item<int64_t>();
      const double own = p[label].item<double>();
      p[label] = -1;
      if (own - p.max().item<double>() >= tau && own > p.max().item<double>()) ++sure;
    }
    REQUIRE(sure >= 6);
  }
}

TEST_CASE("IR's statuses", "[ir]") {
  FixContext::Setup stopped = setup_for("IR");
  stopped.stop = [] { return true; };
  REQUIRE(run(std::move(stopped)).result.failure.code == "timeout");
  const Outcome still = run(setup_for("IR", {{"learning_rate", 0}, {"max_iters", 3}}));
  REQUIRE(still.result.failure.code == "no_fix");
  REQUIRE_FALSE(still.result.network.has_value());
  const FixContext::Setup setup = setup_for("IR");
  const auto adapt = [&](std::optional<int64_t> faults) {
    return find_approach("IR")->adapt({.network = &tiny_network(),
                                       .data = &tiny_data(),
                                       .hyperparameters = setup.hyperparameters,
                                       .repair_faults = faults});
  };
  REQUIRE_FALSE(adapt(3).has_value());
  REQUIRE(adapt(0)->code == "no_faults");
}

TEST_CASE("an interrupted IR goes on bit for bit", "[ir]") {
  const nlohmann::json parameters = {{"max_iters", 45}, {"learning_rate", 1e-3}};
  require_same_after_stops([&] { return setup_for("IR", parameters); });
  require_same_after_stops([&] { return setup_for("RAND", parameters, "IR"); });
}

TEST_CASE("a killed IR goes on from any checkpoint bit for bit", "[ir]") {
  require_same_from_checkpoints("IR", {{"max_iters", 30}, {"learning_rate", 1e-3}}, tiny_network());
}

}  // namespace
}  // namespace harness
