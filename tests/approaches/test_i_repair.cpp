#include "approaches/batches.hpp"
#include "approaches/locate/faults.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/train/masked.hpp"
#include "harness/model/autograd.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/approaches/headed.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::branched_network;
using testing::changed_values;
using testing::headed_network;
using testing::MemorySlot;
using testing::Outcome;
using testing::require_same_after_stops;
using testing::require_same_from_checkpoints;
using testing::run;
using testing::setup_for;
using testing::TemporaryFolder;
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
  const std::vector<int64_t> correct = locate::draw_balanced(
      locate::judge_split(original, validation, 50).correct, validation.labels(), 8, stream);
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
        const nlohmann::json parameters = {{"gamma", gamma},
                                           {"max_iters", steps},
                                           {"learning_rate", 1e-3},
                                           {"general", 8},
                                           {"keep", "last"}};
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
    const nlohmann::json parameters = {{"gamma", 0.05},         {"tau", tau},    {"max_iters", 3000},
                                       {"learning_rate", 3e-3}, {"general", 16}, {"max_specific", 6},
                                       {"keep", "last"}};
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

const Dataset& data_without_validation() {
  static const TemporaryFolder folder;
  static const Dataset data = [] {
    testing::run_python("import h5py\nwith h5py.File('" + tiny_data().file().string() +
                        "') as old, h5py.File('" + (folder / "few.h5").string() + R"(', 'w') as new:
    new.attrs.update(old.attrs)
    for name in old:
        if name != 'validation':
            old.copy(name, new)
)");
    return Dataset::open(folder / "few.h5");
  }();
  return data;
}

TEST_CASE("IR takes ten general inputs for each specific one, at least 40, as far as there are", "[ir]") {
  const Dataset& data = data_without_validation();
  int64_t fixes = 0;
  const Split& train = data.split("train");
  const auto there = static_cast<int64_t>(locate::judge_split(tiny_network(), train, 50).correct.size());
  for (const int64_t specific : {1, 4, 5, 7, 20}) {
    for (const int64_t general : {0, 13}) {
      INFO(specific << " specific, general " << general);
      FixContext::Setup setup = setup_for(
          "IR",
          {{"max_iters", 3}, {"learning_rate", 1e-2}, {"max_specific", specific}, {"general", general}});
      setup.data = &data;
      const Outcome outcome = run(std::move(setup));
      REQUIRE(outcome.log.scalars.at("specific") == static_cast<double>(specific));
      const int64_t wanted = general > 0 ? general : std::max<int64_t>(40, 10 * specific);
      const int64_t expected = std::min(wanted, there);
      REQUIRE(outcome.log.scalars.at("general_from_train") == static_cast<double>(expected));
      if (!outcome.result.network) continue;
      ++fixes;
      const std::string few =
          std::to_string(expected) + " general inputs in place of " + std::to_string(wanted);
      REQUIRE((outcome.result.note.find(few) != std::string::npos) == (expected < wanted));
      REQUIRE(outcome.result.note.find("the last weights: no validation split") != std::string::npos);
      REQUIRE(outcome.log.scalars.count("kept_step") == 0);
    }
  }
  REQUIRE(fixes > 1);
}

TEST_CASE("IR keeps the weights that did best on inputs that it does not train on", "[ir]") {
  const Split& validation = tiny_data().split("validation");
  int64_t earlier = 0;
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    for (const double rate : {1e-3, 1e-2, 3e-2}) {
      for (const int64_t most : {20, 47, 90}) {
        INFO("rate " << rate << ", most " << most);
        const auto parameters = [&](int64_t steps) {
          return nlohmann::json{{"max_iters", steps}, {"learning_rate", rate}, {"gamma", 0.1}};
        };
        MemorySlot memory;
        FixContext::Setup setup = setup_for("IR", parameters(most));
        setup.checkpoint = memory.slot();
        setup.checkpoint.due = [] { return true; };
        const Outcome outcome = run(std::move(setup), *network);
        REQUIRE(outcome.result.network.has_value());
        // The halves do not meet.
        const FixContext context(setup_for("IR"));
        std::vector<int64_t> halves = context.stream("halves").permutation(validation.size());
        const std::vector<int64_t> held_back(halves.begin() + validation.size() / 2, halves.end());
        for (const int64_t position : locate::positions_of(memory.state->at("general")))
          REQUIRE(std::ranges::count(held_back, position) == 0);
        REQUIRE(outcome.log.scalars.at("held_back") == static_cast<double>(held_back.size()));
        // The result is what the series says, and no judged step was better; of equals it is the last one.
        const auto steps = static_cast<int64_t>(outcome.log.counters.at("optimiser_steps"));
        const auto kept = static_cast<int64_t>(outcome.log.scalars.at("kept_step"));
        REQUIRE((kept > 0 && kept <= steps && (kept % 20 == 0 || kept == steps)));
        const std::vector<double>& series = outcome.log.series.at("validation_accuracy");
        REQUIRE(std::ssize(series) == (steps + 19) / 20 + 1);
        const double found = accuracy(*outcome.result.network, {&validation, held_back}, 50);
        REQUIRE(series.front() == accuracy(*network, {&validation, held_back}, 50));
        const int64_t place = (kept + 19) / 20;
        REQUIRE(series.at(static_cast<size_t>(place)) == found);
        for (int64_t k = place + 1; k < std::ssize(series); ++k)
          REQUIRE(series[static_cast<size_t>(k)] < found);
        REQUIRE(outcome.result.note.find("kept step " + std::to_string(kept) + " of " +
                                         std::to_string(steps) + ", by validation accuracy") == 0);
        const Outcome cut = run(setup_for("IR", parameters(kept)), *network);
        REQUIRE(cut.result.network->digest() == outcome.result.network->digest());
        REQUIRE(cut.result.touched.weights == outcome.result.touched.weights);
        REQUIRE(cut.log.scalars.at("specific_repaired") == outcome.log.scalars.at("specific_repaired"));
        earlier += kept < steps;
      }
    }
  }
  REQUIRE(earlier > 2);
}

TEST_CASE("IR waits for better weights for so many steps only", "[ir]") {
  int64_t ended_early = 0;
  for (const double rate : {1e-3, 1e-2, 3e-2}) {
    for (const int64_t patience : {20, 30, 40, 60}) {
      INFO("rate " << rate << ", patience " << patience);
      const auto fix = [&](int64_t most, int64_t waits) {
        return run(
            setup_for("IR",
                      {{"max_iters", most}, {"learning_rate", rate}, {"gamma", 0.1}, {"patience", waits}}),
            tiny_network());
      };
      const Outcome outcome = fix(160, patience);
      const auto steps = static_cast<int64_t>(outcome.log.counters.at("optimiser_steps"));
      // What the whole training would have kept at each of its judgements says where this one had to end.
      const std::vector<double> series = outcome.log.series.at("validation_accuracy");
      int64_t kept = 0, end = 0;
      for (int64_t step = 20; step < 160 && end == 0; step += 20) {
        const auto place = static_cast<size_t>(step / 20);
        if (place >= series.size()) break;
        if (kept == 0 || series[place] >= series[static_cast<size_t>(kept / 20)]) kept = step;
        if (step - kept >= patience) end = step;
      }
      const bool all_right = outcome.log.series.at("still_wrong").back() > 0 &&
                             outcome.result.note.find("specific inputs still wrong") == std::string::npos;
      REQUIRE((end == 0 ? steps == 160 || all_right : steps == end));
      if (end == 0) continue;
      ++ended_early;
      REQUIRE(outcome.log.scalars.at("kept_step") == static_cast<double>(kept));
      REQUIRE(fix(steps, 0).result.network->digest() == outcome.result.network->digest());
    }
  }
  REQUIRE(ended_early > 1);
}

TEST_CASE("IR says how many of its faults are left", "[ir]") {
  int64_t with_some_left = 0;
  for (const std::string keep : {"best", "last"}) {
    for (const int64_t most : {2, 30, 400}) {
      const Outcome outcome = run(
          setup_for("IR", {{"max_iters", most}, {"learning_rate", 1e-2}, {"gamma", 0.1}, {"keep", keep}}));
      if (!outcome.result.network) continue;
      const auto& scalars = outcome.log.scalars;
      const auto left = static_cast<int64_t>(scalars.at("specific") - scalars.at("specific_repaired"));
      const auto steps = keep == "best" ? static_cast<int64_t>(scalars.at("kept_step"))
                                        : outcome.log.counters.at("optimiser_steps");
      const std::vector<int64_t> wrong =
          locate::judge_split(tiny_network(), tiny_data().split("repair"), 50).wrong;
      const InputSet faults{&tiny_data().split("repair"), wrong};
      REQUIRE(static_cast<double>(left) ==
              Approx(std::ssize(wrong) * (1 - accuracy(*outcome.result.network, faults, 50))));
      const std::string text = std::to_string(left) + " of " + std::to_string(wrong.size()) +
                               " specific inputs still wrong after " + std::to_string(steps) + " steps";
      REQUIRE((outcome.result.note.find(text) != std::string::npos) == (left > 0));
      with_some_left += left > 0;
    }
  }
  REQUIRE((with_some_left > 0 && with_some_left < 6));
}

TEST_CASE("IR takes few faults where a step on all is too long, and all without a limit", "[ir]") {
  const double faults = static_cast<double>(
      locate::judge_split(headed_network(), tiny_data().split("repair"), 50).wrong.size());
  REQUIRE(faults > 40);
  const nlohmann::json few = {
      {"masks", "none"}, {"max_iters", 30}, {"learning_rate", 1e-2}, {"cap_seconds", 0}};
  // The network is right about too few validation images.
  const auto setup = [](const nlohmann::json& parameters) {
    FixContext::Setup made = setup_for("IR", parameters);
    made.data = &data_without_validation();
    return made;
  };
  for (const nlohmann::json& limit : {nlohmann::json(nullptr), nlohmann::json(1e9), nlohmann::json(0)}) {
    nlohmann::json parameters = few;
    parameters["cap_seconds"] = limit;
    const Outcome outcome = run(setup(parameters), headed_network());
    INFO(limit << ": " << outcome.result.failure.text);
    REQUIRE(outcome.result.network.has_value());
    const bool capped = limit == 0;
    REQUIRE(outcome.log.scalars.at("specific") == (capped ? 40 : faults));
    REQUIRE((outcome.result.note.find("40 of " + std::to_string(static_cast<int64_t>(faults)) +
                                      " faults take part") != std::string::npos) == capped);
  }
  require_same_after_stops([&] { return setup(few); }, headed_network());
}

TEST_CASE("IR's learning rate follows from the layers where none is given", "[ir]") {
  const auto rate = [](const Network& network) {
    return run(setup_for("IR", {{"max_iters", 1}, {"keep", "last"}}), network)
        .log.scalars.at("learning_rate");
  };
  REQUIRE(rate(tiny_network()) == 1e-5);  // convolutions and no batch norm
  const TemporaryFolder folder;
  testing::run_python(R"(
import torch
from torch import nn
torch.manual_seed(1)
net = nn.Sequential(nn.Flatten(), nn.Linear(128, 12), nn.ReLU(), nn.Linear(12, 4)).eval()
torch.jit.script(net).save(')" +
                      (folder / "dense.pt").string() + "')\n");
  REQUIRE(rate(Network::load(folder / "dense.pt", tiny_data().split("repair").inputs(0, 3))) == 1e-4);
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
