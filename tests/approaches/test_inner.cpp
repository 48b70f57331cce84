#include <cmath>

#include "approaches/locate/faults.hpp"
#include "approaches/routing/block_repair.hpp"
#include "approaches/routing/neuron_routing.hpp"
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

// Little work, and a goal that is not reached by chance.
nlohmann::json quick(nlohmann::json more = nlohmann::json::object()) {
  nlohmann::json parameters = {{"probe_epochs", 4},    {"routing_samples", 10}, {"routing_steps", 6},
                               {"goal_fault_rate", 0}, {"epochs", 3},           {"learning_rate", 0.05},
                               {"blocks", 2}};
  parameters.update(more);
  return parameters;
}

const std::string& name_of(const Network& network, NodeId id) {
  return network.nodes()[static_cast<size_t>(id)].name;
}

// A single dense layer, and many stages with a hidden dense layer behind them. Made once by Python.
struct Scripted {
  testing::TemporaryFolder folder;
  std::optional<Network> single, deep, wide;

  Scripted() {
    std::string program = R"(
import torch
from torch import nn
import torch.nn.functional as F

class Single(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(128, 4)
    def forward(self, x):
        return self.fc(torch.flatten(x, 1))

class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(2, 3, 3, padding=5)
        self.c2 = nn.Conv2d(3, 3, 3, padding=1)
        self.point = nn.Conv2d(3, 4, 1)
        self.c3 = nn.Conv2d(4, 4, 3, padding=1)
        self.c4 = nn.Conv2d(4, 4, 3, padding=1)
        self.c5 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc1 = nn.Linear(16, 6)
        self.bn = nn.BatchNorm1d(6)
        self.fc2 = nn.Linear(6, 4)
    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.c1(x)), 2)
        x = F.max_pool2d(torch.relu(self.point(self.c2(x))), 2, padding=1)
        x = F.relu(self.c3(F.pad(x, [2, 2, 2, 2])))
        x = F.avg_pool2d(F.relu(self.c4(x)), 2)
        x = F.max_pool2d(F.relu(self.c5(x)), 2, padding=1)
        x = torch.flatten(F.adaptive_avg_pool2d(x, 2), 1)
        return self.fc2(torch.relu(self.bn(self.fc1(x))))

class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(128, 601)
        self.fc2 = nn.Linear(601, 4)
    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))

torch.manual_seed(4)
for name, net in (('single', Single()), ('deep', Deep()), ('wide', Wide())):
    torch.jit.script(net.eval()).save('@/' + name + '.pt')
)";
    program.replace(program.find('@'), 1, folder.path().string());
    testing::run_python(program);
    const at::Tensor sample = tiny_data().split("repair").inputs(0, 3);
    single = Network::load(folder / "single.pt", sample);
    deep = Network::load(folder / "deep.pt", sample);
    wide = Network::load(folder / "wide.pt", sample);
  }
};

const Scripted& scripted() {
  static const Scripted made;
  return made;
}

TEST_CASE("blocks of networks", "[inner]") {
  const std::vector<routing::ProbedBlock> tiny = routing::probed_blocks(tiny_network());
  REQUIRE(tiny.size() == 3);
  REQUIRE(name_of(tiny_network(), tiny[0].layer) == "conv1");
  REQUIRE(name_of(tiny_network(), tiny[0].output) == "max_pool_1");
  REQUIRE(name_of(tiny_network(), tiny[1].layer) == "conv2");
  REQUIRE(name_of(tiny_network(), tiny[1].output) == "tanh_1");
  REQUIRE(tiny[1].bias == -1);
  REQUIRE(name_of(tiny_network(), tiny[2].layer) == "fc1");
  REQUIRE(name_of(tiny_network(), tiny[2].output) == "relu_2");
  REQUIRE(tiny[2].bias == tiny_network().find_parameter("fc1.bias"));
  REQUIRE((tiny[0].probe_depth == 1 && tiny[1].probe_depth == 1 && tiny[2].probe_depth == 0));
  // Where connections skip, a stage without any is none; a kernel that two layers share is not repaired.
  const std::vector<routing::ProbedBlock> branched = routing::probed_blocks(branched_network());
  REQUIRE(branched.size() == 2);
  REQUIRE(name_of(branched_network(), branched[0].layer) == "conv2");
  REQUIRE(name_of(branched_network(), branched[0].output) == "max_pool_1");
  REQUIRE(name_of(branched_network(), branched[1].layer) == "fc1");
  const Network& single = *scripted().single;
  REQUIRE(routing::probed_blocks(single).empty());
  const FixContext::Setup setup = setup_for("IN");
  const auto adapt = [&](const Network& network, std::optional<int64_t> faults) {
    return find_approach("IN")->adapt({.network = &network,
                                       .data = &tiny_data(),
                                       .hyperparameters = setup.hyperparameters,
                                       .repair_faults = faults});
  };
  REQUIRE(adapt(single, 3)->code == "structure");
  REQUIRE(adapt(tiny_network(), 0)->code == "no_faults");
  REQUIRE_FALSE(adapt(tiny_network(), 3).has_value());
}

TEST_CASE("blocks of a deep network with batch norm", "[inner]") {
  const Network& deep = *scripted().deep;
  const std::vector<routing::ProbedBlock> blocks = routing::probed_blocks(deep);
  REQUIRE(blocks.size() == 5);
  const char* const layers[] = {"c1", "c2", "c4", "c5", "fc1"};
  const char* const outputs[] = {"max_pool_1", "max_pool_2", "avg_pool_1", "max_pool_3", "relu_6"};
  for (size_t b = 0; b < 5; ++b) {
    INFO(b << " " << name_of(deep, blocks[b].layer) << " " << name_of(deep, blocks[b].output));
    REQUIRE(name_of(deep, blocks[b].layer) == layers[b]);
    REQUIRE(name_of(deep, blocks[b].output) == outputs[b]);
  }
}

TEST_CASE("parts of a network", "[inner]") {
  const Network& network = branched_network();
  const at::Tensor x = tiny_data().split("repair").inputs(0, 6);
  for (const routing::ProbedBlock& block : routing::probed_blocks(network)) {
    const routing::Segment segment = routing::segment_between(network, block.layer, block.output);
    REQUIRE(segment.nodes.back() == block.output);
    std::map<NodeId, at::Tensor> known;
    for (const NodeId id : segment.live) known[id] = network.activations(x, {id})[0];
    known[block.layer] = network.activations(x, {block.layer})[0];
    // Nothing else is needed: the input is not among them.
    REQUIRE(known.count(0) == 0);
    REQUIRE(routing::evaluate_part(network, block.output, known)
                .equal(network.activations(x, {block.output})[0]));
  }
  // The residual sum behind conv2 reads what lies before it.
  REQUIRE(routing::segment_between(network, routing::probed_blocks(network)[0].layer,
                                   routing::probed_blocks(network)[0].output)
              .live.size() == 1);
}

routing::Probe probe_of(const Network& network, const routing::ProbedBlock& block, int depth, uint64_t seed) {
  return routing::Probe(depth, network.nodes()[static_cast<size_t>(block.output)].shape, 4, seed, at::kCPU);
}

TEST_CASE("probes of every depth learn, and keep their best epoch", "[inner]") {
  const at::Tensor x = tiny_data().split("train").inputs(0, 90);
  const at::Tensor y = tiny_data().split("train").labels().slice(0, 0, 90);
  for (const int depth : {0, 1, 2}) {
    const routing::Probe probe(depth, {2, 8, 8}, 4, 5, at::kCPU), same(depth, {2, 8, 8}, 4, 5, at::kCPU);
    REQUIRE(probe.logits(x, false).sizes() == at::IntArrayRef({90, 4}));
    REQUIRE(probe.logits(x, false).equal(same.logits(x, false)));
    REQUIRE_FALSE(
        probe.logits(x, false).equal(routing::Probe(depth, {2, 8, 8}, 4, 6, at::kCPU).logits(x, false)));
    const routing::ProbeTraining settings{.learning_rate = 0.01, .epochs = 25, .batch = 30, .seed = 3};
    const double reached = routing::train_probe(probe, x, y, settings);
    REQUIRE(reached > 0.6);
    REQUIRE(routing::train_probe(same, x, y, settings) == reached);
    REQUIRE(probe.logits(x, false).equal(same.logits(x, false)));
    for (const at::Tensor& tensor : probe.trained()) REQUIRE_FALSE(tensor.requires_grad());
    CheckpointState state;
    probe.save(state, "p");
    const routing::Probe other(depth, {2, 8, 8}, 4, 9, at::kCPU);
    other.load(state, "p");
    REQUIRE(probe.logits(x, false).equal(other.logits(x, false)));
    routing::ProbeTraining stopped = settings;
    stopped.stop = [] { return true; };
    REQUIRE_THROWS_AS(routing::train_probe(same, x, y, stopped), FixStopped);
  }
}

TEST_CASE("a probe keeps the epoch with the highest training accuracy", "[inner]") {
  const at::Tensor x = tiny_data().split("train").inputs(0, 90);
  const at::Tensor y = tiny_data().split("train").labels().slice(0, 0, 90);
  // A rate at which the accuracy goes up and down. A run of more epochs begins as one of fewer does.
  std::vector<double> reached;
  std::vector<at::Tensor> answers;
  for (int64_t epochs = 1; epochs <= 12; ++epochs) {
    const routing::Probe probe(0, {2, 8, 8}, 4, 5, at::kCPU);
    reached.push_back(
        routing::train_probe(probe, x, y, {.learning_rate = 0.5, .epochs = epochs, .batch = 30, .seed = 3}));
    answers.push_back(probe.logits(x, false));
  }
  int kept = 0;
  for (size_t k = 1; k < reached.size(); ++k) {
    REQUIRE(reached[k] >= reached[k - 1]);
    REQUIRE(answers[k].equal(answers[k - 1]) == (reached[k] == reached[k - 1]));
    kept += reached[k] == reached[k - 1];
  }
  REQUIRE(kept > 0);
}

TEST_CASE("anomaly score", "[inner]") {
  const at::Tensor clean = at::tensor({0.5f, 0.5f}), faulty = at::tensor({0.25f, 0.75f});
  REQUIRE(routing::anomaly_score(clean, faulty) == Approx(std::log(2.0)).epsilon(1e-5));
  const at::Tensor sure = at::tensor({1.0f, 0.0f});
  REQUIRE(routing::anomaly_score(sure, faulty) == Approx(0.75 * std::log(1e7)).epsilon(1e-4));
}

// One input after the other, the kernel itself being replaced in a copy of the network.
at::Tensor plain_routing(const Network& network, const routing::ProbedBlock& block,
                         const routing::Probe& probe, const at::Tensor& inputs, int64_t steps) {
  const at::Tensor kernel = network.parameters()[block.weight].value;
  at::Tensor counts = at::zeros(kernel.sizes(), at::kInt);
  for (int64_t n = 0; n < inputs.size(0); ++n) {
    const at::Tensor x = inputs.slice(0, n, n + 1);
    const at::Tensor wanted = probe.logits(network.activations(x, {block.output})[0], false).argmax(1);
    Network copy = network.fork();
    at::Tensor routing = at::ones_like(kernel);
    for (int64_t step = 0; step < steps; ++step) {
      copy.set_parameter(block.weight, routing * kernel);
      at::Tensor leaf = copy.parameters()[block.weight].value;
      leaf.requires_grad_(true);
      const at::Tensor loss =
          at::cross_entropy_loss(probe.logits(copy.activations(x, {block.output})[0], false), wanted);
      const at::Tensor gradient = grad({loss}, {leaf})[0];
      leaf.requires_grad_(false);
      routing = (routing - 0.3 * gradient - 0.01 * routing.sign()).clamp(0, 1);
    }
    counts += (routing > routing.mean()).to(at::kInt);
  }
  return counts;
}

TEST_CASE("routing of many inputs at once equals one after the other", "[inner]") {
  const at::Tensor x = tiny_data().split("repair").inputs(0, 7);
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    for (const routing::ProbedBlock& block : routing::probed_blocks(*network)) {
      const routing::Probe probe = probe_of(*network, block, block.probe_depth, 3);
      const at::Tensor expected = plain_routing(*network, block, probe, x, 9);
      INFO(name_of(*network, block.layer));
      REQUIRE((expected.min().item<int>() < 7 && expected.max().item<int>() > 0));
      for (const int64_t together : {1, 3, 7, 0}) {
        const routing::RoutingCounts found = routing::routing_counts(
            *network, block, probe, x, {.steps = 9, .rate = 0.3, .shrink = 0.01, .together = together});
        REQUIRE(found.inputs == 7);
        // An entry that equals its tensor's mean to the last bit may fall on either side.
        REQUIRE((found.marked - expected).abs().sum().item<int64_t>() <= expected.numel() / 50);
      }
    }
  }
  const std::vector<routing::ProbedBlock> blocks = routing::probed_blocks(tiny_network());
  int64_t checked = 0;
  const Stop third = [&] { return ++checked == 3; };
  REQUIRE_THROWS_AS(
      routing::routing_counts(tiny_network(), blocks[0], probe_of(tiny_network(), blocks[0], 1, 3), x,
                              {.together = 2, .stop = third}),
      FixStopped);
  REQUIRE(checked == 3);
}

TEST_CASE("routing ends once every weight is marked, with the union of all inputs", "[inner]") {
  const at::Tensor x = tiny_data().split("repair").inputs(0, 40);
  int64_t early = 0, whole = 0;
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    for (const routing::ProbedBlock& block : routing::probed_blocks(*network)) {
      const routing::Probe probe = probe_of(*network, block, block.probe_depth, 3);
      routing::RoutingSettings settings{.steps = 9, .rate = 0.3, .shrink = 0.01, .together = 1};
      const at::Tensor all = routing::routing_counts(*network, block, probe, x, settings).marked > 0;
      int64_t enough = 0;  // the first inputs whose union is that of all
      at::Tensor seen = at::zeros_like(all);
      while (enough < 40 && !seen.all().item<bool>()) {
        const at::Tensor next = x.slice(0, enough, enough + 1);
        seen.logical_or_(routing::routing_counts(*network, block, probe, next, settings).marked > 0);
        ++enough;
      }
      settings.until_full = true;
      const routing::RoutingCounts found = routing::routing_counts(*network, block, probe, x, settings);
      INFO(name_of(*network, block.layer));
      REQUIRE(found.inputs == enough);
      REQUIRE((found.marked > 0).equal(all));
      (enough < 40 ? early : whole) += 1;
    }
  }
  REQUIRE(early > 0);
}

TEST_CASE("routing in parts of a layer equals routing of all of it", "[inner]") {
  // A dense layer of more weights than a part has, in rows that do not fill the last one.
  const Network& network = *scripted().wide;
  const routing::ProbedBlock block = routing::probed_blocks(network).back();
  REQUIRE(network.parameters()[block.weight].value.numel() > (1 << 16));
  const routing::Probe probe = probe_of(network, block, 0, 3);
  const at::Tensor x = tiny_data().split("repair").inputs(0, 3);
  const at::Tensor expected = plain_routing(network, block, probe, x, 9);
  const at::Tensor found =
      routing::routing_counts(network, block, probe, x, {.steps = 9, .rate = 0.3, .shrink = 0.01}).marked;
  REQUIRE((expected.min().item<int>() < 3 && expected.max().item<int>() > 0));
  REQUIRE((found - expected).abs().sum().item<int64_t>() <= expected.numel() / 50);
}

TEST_CASE("marked weights", "[inner]") {
  const at::Tensor counts = at::tensor({0, 3, 1, 3, 0, 2}, at::kInt);
  REQUIRE(routing::marked(counts, 6).equal(counts > 0));
  REQUIRE(routing::marked(counts, 2).equal(at::tensor({0, 1, 0, 1, 0, 0}) > 0));
  REQUIRE(routing::marked(counts, 1).equal(at::tensor({0, 1, 0, 0, 0, 0}) > 0));
  REQUIRE(routing::marked(counts, 5).equal(counts > 0));  // not one that was never marked
}

TEST_CASE("masked training of a block equals plain gradient descent", "[inner]") {
  const Split &repair = tiny_data().split("repair"), &validation = tiny_data().split("validation");
  const InputSet faulty{&repair, {0, 6, 12, 30, 66, 72, 18}}, clean{&validation, {1, 2, 3, 4, 5}};
  for (const Network* original : {&tiny_network(), &branched_network()}) {
    const routing::ProbedBlock block = routing::probed_blocks(*original).back();
    const routing::Probe probe = probe_of(*original, block, 0, 3);
    const at::Tensor& kernel = original->parameters()[block.weight].value;
    const at::Tensor mask = at::rand({kernel.numel()}, at::detail::createCPUGenerator(2)) < 0.5;
    for (const bool on_probe : {true, false}) {
      Network network = original->fork(), plain = original->fork();
      routing::BlockRepair repair_of(network, {{block, probe, mask}}, faulty, clean,
                                     {.learning_rate = 0.1, .batch = 3, .train_mode = false});
      REQUIRE((on_probe ? repair_of.train_on_probe(0, 0) : repair_of.train_on_output(0, 0)));
      const int64_t used = on_probe ? 5 : 7;
      REQUIRE(repair_of.steps() == (used + 2) / 3);
      for (int64_t begin = 0; begin < used; begin += 3) {
        const int64_t end = std::min<int64_t>(used, begin + 3);
        at::Tensor w = plain.parameters()[block.weight].value, b = plain.parameters()[block.bias].value;
        w.requires_grad_(true);
        b.requires_grad_(true);
        const at::Tensor x = faulty.load(begin, end, at::kCPU), y = faulty.labels(begin, end, at::kCPU);
        at::Tensor loss;
        if (on_probe) {
          const at::Tensor wrong = probe.logits(plain.activations(x, {block.output})[0], false);
          const at::Tensor right =
              probe.logits(plain.activations(clean.load(begin, end, at::kCPU), {block.output})[0], false)
                  .detach();
          at::Tensor kept = at::zeros({});
          for (int64_t k = 0; k < 4; ++k)
            kept = kept - ((right / 3).softmax(1) * (wrong / 3).softmax(1).log()).select(1, k).mean();
          loss = 0.8 * at::cross_entropy_loss(wrong, y) + 0.2 * kept;
        } else {
          loss = at::cross_entropy_loss(plain.differentiable_logits(x), y);
        }
        const auto gradients = grad({loss}, {w, b});
        w.requires_grad_(false);
        b.requires_grad_(false);
        plain.set_parameter(block.weight, w - 0.1 * gradients[0] * mask.view(w.sizes()).to(at::kFloat));
        plain.set_parameter(block.bias, b - 0.1 * gradients[1]);
      }
      for (const ParameterId id : {block.weight, block.bias}) {
        REQUIRE(at::allclose(network.parameters()[id].value, plain.parameters()[id].value, 1e-5, 1e-6));
        REQUIRE_FALSE(network.parameters()[id].value.equal(original->parameters()[id].value));
      }
      const Touched touched = repair_of.touched();
      REQUIRE(touched.weights.size() == 2);
      for (const auto& [name, index] : changed_values(*original, network)) {
        const std::vector<int64_t>& declared = touched.weights.at(name);
        REQUIRE((declared.empty() || std::ranges::count(declared, index) == 1));
      }
    }
  }
}

TEST_CASE("IN changes nothing but what it declares", "[inner]") {
  for (const std::string mode : {"reference", "evaluation"}) {
    for (const std::string key : {"IN", "RAND"}) {
      const nlohmann::json parameters =
          quick({{"bn_mode", mode}, {"mask_mode", "top_n"}, {"top_weights", 9}});
      const Outcome outcome = run(setup_for(key, parameters, key == "RAND" ? "IN" : ""), branched_network());
      REQUIRE(outcome.result.network.has_value());
      REQUIRE(outcome.log.counters.at("epochs") == 3);
      REQUIRE(outcome.log.series.at("selected").size() == 2);
      REQUIRE(outcome.log.series.at("anomaly_score").size() == 2);
      REQUIRE(outcome.log.series.at("fault_rate").size() == 6);
      bool averages = false;
      for (const auto& [name, index] : changed_values(branched_network(), *outcome.result.network)) {
        averages |= name.find("running") != std::string::npos;
        const std::vector<int64_t>& declared = outcome.result.touched.weights.at(name);
        REQUIRE((declared.empty() || std::ranges::count(declared, index) == 1));
      }
      REQUIRE(averages == (mode == "reference"));
      REQUIRE(outcome.result.touched.weights.at("conv2.weight").size() == 9);
      REQUIRE(outcome.result.touched.weights.at("fc1.weight").size() == 9);
      REQUIRE(outcome.result.touched.weights.at("fc1.bias").empty());  // all of it
      REQUIRE(outcome.result.touched.weights.count("fc2.weight") == 0);
    }
  }
}

TEST_CASE("IN keeps its sets of inputs apart and repairs some faults", "[inner]") {
  const Outcome outcome = run(setup_for(
      "IN", quick({{"epochs", 20}, {"learning_rate", 0.1}, {"mask_mode", "union"}, {"keep", "last"}})));
  REQUIRE(outcome.log.scalars.at("inputs_faulty") == 16);
  REQUIRE(outcome.log.scalars.at("inputs_held_out") == 4);
  REQUIRE(outcome.log.scalars.at("inputs_clean") == 12);
  REQUIRE(outcome.log.scalars.at("inputs_check") == 12);
  REQUIRE(outcome.log.scalars.at("inputs_probe") == 96);
  const locate::Judgement after =
      locate::judge_split(*outcome.result.network, tiny_data().split("repair"), 50);
  int64_t repaired = 0;
  for (const int64_t n : locate::judge_split(tiny_network(), tiny_data().split("repair"), 50).wrong)
    repaired += std::ranges::count(after.correct, n);
  REQUIRE(repaired > 0);
  for (const std::string phase : {"probes", "localise", "routing", "repair"})
    REQUIRE(outcome.log.phases.count(phase) == 1);
  // A goal that is there from the start ends it after the first pass over the probes.
  const Outcome content = run(setup_for("IN", quick({{"goal_fault_rate", 1}, {"learning_rate", 1e-6}})));
  REQUIRE(
      (content.log.scalars.at("reached_its_goal") == 1 || content.log.series.at("fault_rate").back() == 1));
}

TEST_CASE("IN's failures", "[inner]") {
  FixContext::Setup stopped = setup_for("IN", quick());
  stopped.stop = [] { return true; };
  REQUIRE(run(std::move(stopped)).result.failure.code == "timeout");
  Network broken = tiny_network().fork();
  broken.set_parameter(broken.find_parameter("fc2.bias"), at::full({4}, std::nan("")));
  const Outcome wild = run(setup_for("IN", quick()), broken);  // the probes do not see it
  REQUIRE(wild.result.failure.code == "no_fix");
  REQUIRE_FALSE(wild.result.network.has_value());
}

TEST_CASE("an interrupted IN goes on bit for bit", "[inner]") {
  for (const Network* network : {&tiny_network(), &branched_network()})
    require_same_after_stops([] { return setup_for("IN", quick()); }, *network);
}

TEST_CASE("a killed IN goes on from any checkpoint bit for bit", "[inner]") {
  require_same_from_checkpoints("IN", quick(), branched_network());
}

}  // namespace
}  // namespace harness
