#include <cmath>

#include "approaches/batches.hpp"
#include "approaches/locate/sampling.hpp"
#include "approaches/routing/blocks.hpp"
#include "approaches/train/masked.hpp"
#include "approaches/train/weight_gradients.hpp"
#include "harness/model/autograd.hpp"
#include "harness/model/fast/conv_pool.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::branched_network;
using testing::changed_values;
using testing::tiny_data;
using testing::tiny_network;

at::Tensor seeded(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed), at::TensorOptions(at::kFloat));
}

at::Tensor coins(int64_t count, uint64_t seed) {
  return at::rand({count}, at::detail::createCPUGenerator(seed), at::TensorOptions(at::kFloat)) < 0.5;
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.view(at::kInt).equal(b.view(at::kInt));
}

std::vector<train::UpdateRule> rules() {
  return {{.kind = train::UpdateRule::Kind::sgd, .learning_rate = 0.1},
          {.kind = train::UpdateRule::Kind::sgd, .learning_rate = 0.1, .momentum = 0.9},
          {.kind = train::UpdateRule::Kind::adam, .learning_rate = 0.01},
          {.kind = train::UpdateRule::Kind::rmsprop, .learning_rate = 0.001}};
}

// One weight's update in double precision, from the formulas of the literature.
struct Scalar {
  double weight = 0, first = 0, second = 0;
  void step(const train::UpdateRule& rule, double gradient, bool moves, int number) {
    const double g = moves ? gradient : 0;
    double change = 0;
    if (rule.kind == train::UpdateRule::Kind::sgd) {
      first = rule.momentum * first + g;
      change = first;
    } else if (rule.kind == train::UpdateRule::Kind::rmsprop) {
      second = 0.99 * second + 0.01 * g * g;
      change = g / (std::sqrt(second) + 1e-8);
    } else {
      first = 0.9 * first + 0.1 * g;
      second = 0.999 * second + 0.001 * g * g;
      change =
          first / (1 - std::pow(0.9, number)) / (std::sqrt(second / (1 - std::pow(0.999, number))) + 1e-8);
    }
    if (moves) weight -= rule.learning_rate * change;
  }
};

TEST_CASE("masked steps follow their rules and leave masked weights alone", "[masked]") {
  for (const train::UpdateRule& rule : rules()) {
    Network network = tiny_network().fork();
    const std::vector<ParameterId> ids = {network.find_parameter("fc2.weight"),
                                          network.find_parameter("conv1.bias")};
    // A negative zero is where a careless zero step would show.
    network.set_parameter(ids[1], at::tensor({-0.0f, 0.5f, 0.0f}));
    train::MaskedOptimiser optimiser(network, ids, rule);
    const int64_t count = optimiser.weights().size();
    REQUIRE(count == 43);
    std::vector<Scalar> expected(static_cast<size_t>(count));
    at::Tensor before = optimiser.weights().gather(), ever = at::zeros({count}, at::kBool);
    for (int64_t k = 0; k < count; ++k) expected[static_cast<size_t>(k)].weight = before[k].item<double>();
    for (int number = 1; number <= 6; ++number) {
      const at::Tensor gradient = seeded({count}, 100 + number);
      at::Tensor mask = coins(count, 200 + number);
      if (number == 1) mask[40] = false;
      ever = ever.logical_or(mask);
      optimiser.step(gradient, mask);
      const at::Tensor after = optimiser.weights().gather();
      const at::Tensor kept = mask.logical_not();
      REQUIRE(same_bits(after.masked_select(kept), before.masked_select(kept)));
      REQUIRE_FALSE(after.masked_select(mask).eq(before.masked_select(mask)).any().item<bool>());
      for (int64_t k = 0; k < count; ++k) {
        Scalar& weight = expected[static_cast<size_t>(k)];
        weight.step(rule, gradient[k].item<double>(), mask[k].item<bool>(), number);
        REQUIRE(after[k].item<double>() == Approx(weight.weight).margin(1e-5));
      }
      before = after;
    }
    REQUIRE(optimiser.moved().equal(ever));
    REQUIRE(optimiser.steps() == 6);
    const Touched touched = optimiser.weights().touched(optimiser.moved());
    for (const auto& [name, index] : changed_values(tiny_network(), network)) {
      const auto found = touched.weights.find(name);
      REQUIRE((name == "conv1.bias" || found != touched.weights.end()));
      if (name == "conv1.bias" || found->second.empty()) continue;
      REQUIRE(std::ranges::count(found->second, index) == 1);
    }
  }
}

TEST_CASE("without a mask every weight moves", "[masked]") {
  Network network = tiny_network().fork();
  train::MaskedOptimiser optimiser(network, train::trainable_parameters(network), rules()[0]);
  optimiser.step(at::ones({optimiser.weights().size()}), {});
  REQUIRE(optimiser.moved().all().item<bool>());
  const Touched touched = optimiser.weights().touched(optimiser.moved());
  REQUIRE(touched.weights.size() == train::trainable_parameters(network).size());
  for (const auto& [name, indices] : touched.weights) REQUIRE(indices.empty());  // all of it
}

TEST_CASE("a masked optimiser goes on bit for bit", "[masked]") {
  for (const train::UpdateRule& rule : rules()) {
    Network network = tiny_network().fork(), other = tiny_network().fork();
    train::MaskedOptimiser optimiser(network, train::trainable_parameters(network), rule);
    train::MaskedOptimiser resumed(other, train::trainable_parameters(other), rule);
    const int64_t count = optimiser.weights().size();
    const auto step = [&](train::MaskedOptimiser& of, uint64_t number) {
      of.step(seeded({count}, number), coins(count, 50 + number));
    };
    for (uint64_t number = 0; number < 3; ++number) step(optimiser, number);
    CheckpointState state;
    optimiser.save(state, "x");
    for (uint64_t number = 3; number < 6; ++number) step(optimiser, number);
    resumed.load(state, "x");
    REQUIRE(resumed.steps() == 3);
    for (uint64_t number = 3; number < 6; ++number) step(resumed, number);
    REQUIRE(changed_values(network, other).empty());
    REQUIRE(resumed.moved().equal(optimiser.moved()));
    REQUIRE(resumed.steps() == 6);
  }
}

// Flat gradient of a sum over inputs by autograd on the whole network.
at::Tensor by_autograd(const Network& network, const train::FlatWeights& weights, const at::Tensor& x,
                       const at::Tensor& seed) {
  Network copy = network.fork();
  copy.require_grad(true);
  std::vector<at::Tensor> wanted;
  for (const ParameterId id : weights.parameters()) wanted.push_back(copy.parameters()[id].value);
  const at::Tensor sum = (copy.differentiable_logits(x) * seed).sum();
  std::vector<at::Tensor> found = grad({sum}, wanted, {}, {.allow_unused = true});
  for (size_t k = 0; k < found.size(); ++k) {
    if (!found[k].defined()) found[k] = at::zeros_like(wanted[k]);
  }
  return weights.join(found);
}

bool close(const at::Tensor& a, const at::Tensor& b) {
  return at::allclose(a, b, 1e-4, 1e-5 * b.abs().max().item<double>());
}

TEST_CASE("weight gradients of groups of inputs equal autograd's", "[masked]") {
  const at::Tensor x = tiny_data().split("repair").inputs(0, 20);
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    std::vector<std::vector<ParameterId>> choices = {train::trainable_parameters(*network)};
    choices.push_back({network->find_parameter("fc1.weight"), network->find_parameter("fc2.bias")});
    choices.push_back({network->find_parameter("conv2.weight")});
    choices.push_back({network->find_parameter("conv1.weight")});
    for (const std::vector<ParameterId>& chosen : choices) {
      const train::FlatWeights weights(*network, chosen);
      train::WeightGradients gradients(*network, weights, 3);
      for (const int64_t chunk : {20, 7}) {
        gradients.clear();
        std::vector<at::Tensor> expected;
        for (int k = 0; k < 3; ++k) expected.push_back(at::zeros({weights.size()}));
        for (int64_t begin = 0; begin < 20; begin += chunk) {
          const int64_t end = std::min<int64_t>(20, begin + chunk), size = end - begin;
          const at::Tensor part = x.slice(0, begin, end);
          REQUIRE(at::allclose(gradients.forward(part), network->logits(part), 1e-5, 1e-5));
          const at::Tensor seed = seeded({size, 4}, begin), other = seeded({size, 4}, 60 + begin);
          const at::Tensor even = at::arange(0, size, 2), odd = at::arange(1, size, 2);
          gradients.backward(seed, {{even, 0}, {odd, 1}, {at::empty({0}, at::kLong), 2}});
          gradients.backward(other, {{.inputs = {}, .sum = 2}});
          expected[0] +=
              by_autograd(*network, weights, part.index_select(0, even), seed.index_select(0, even));
          expected[1] += by_autograd(*network, weights, part.index_select(0, odd), seed.index_select(0, odd));
          expected[2] += by_autograd(*network, weights, part, other);
        }
        for (size_t k = 0; k < 3; ++k) {
          INFO(chosen.size() << " parameters, chunk " << chunk << ", sum " << k);
          REQUIRE(expected[k].abs().max().item<double>() > 1e-3);
          REQUIRE(close(gradients.sum(k), expected[k]));
        }
      }
    }
  }
}

// Dropout, pooling by averages, concatenation, a clipped ReLU; logits at the end.
Network mixed_network() {
  const testing::TemporaryFolder folder;
  std::string program = R"(
import torch
from torch import nn

class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(2, 5, 1, stride=2)
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(32, 12)
        self.fc2 = nn.Linear(12, 4)
    def forward(self, x):
        x = torch.cat([torch.relu(self.conv1(x)), torch.nn.functional.relu6(3 * self.conv2(x))], 1)
        x = torch.flatten(torch.nn.functional.avg_pool2d(x, 2), 1)
        return self.fc2(self.drop(torch.nn.functional.silu(self.fc1(x))))

torch.manual_seed(4)
torch.jit.script(Mixed().eval()).save('@')
)";
  program.replace(program.find('@'), 1, (folder / "mixed.pt").string());
  testing::run_python(program);
  return Network::load(folder / "mixed.pt", tiny_data().split("repair").inputs(0, 3));
}

TEST_CASE("weight gradients with dropout and of kinds without a rule", "[masked]") {
  const Network network = mixed_network();
  const train::FlatWeights weights(network, train::trainable_parameters(network));
  train::WeightGradients gradients(network, weights, 1);
  const at::Tensor x = tiny_data().split("repair").inputs(0, 9), seed = seeded({9, 4}, 1);
  REQUIRE(at::allclose(gradients.forward(x), network.logits(x), 1e-5, 1e-6));
  gradients.backward(seed, {{.inputs = {}, .sum = 0}});
  REQUIRE(close(gradients.sum(0), by_autograd(network, weights, x, seed)));
  gradients.clear();
  const at::Tensor dropped = gradients.forward(x, 3);
  gradients.backward(seed, {{.inputs = {}, .sum = 0}});
  // The same draws in a plain pass in train mode; this network has no batch norm that would notice it.
  Network copy = network.fork();
  copy.require_grad(true);
  const at::Tensor z = routing::evaluate_part(copy, copy.logits_node(), {{0, x}}, {true, 3});
  REQUIRE(at::allclose(dropped, z, 1e-5, 1e-6));
  REQUIRE_FALSE(at::allclose(dropped, network.logits(x), 1e-2, 1e-2));
  std::vector<at::Tensor> wanted;
  for (const ParameterId id : weights.parameters()) wanted.push_back(copy.parameters()[id].value);
  REQUIRE(close(gradients.sum(0), weights.join(grad({(z * seed).sum()}, wanted))));
}

TEST_CASE("the kernel's gradient behind a pooling equals the dense one", "[masked]") {
  for (const int64_t padding : {0, 1}) {
    Node conv, pool;
    conv.kind = NodeKind::conv;
    conv.attributes = ConvAttributes{.stride = {2, 1}, .padding = {padding, 2}, .dilation = {1, 1}};
    pool.kind = NodeKind::max_pool;
    pool.attributes = PoolAttributes{
        .kernel = {3, 2}, .stride = {2, 2}, .padding = {1, 0}, .dilation = {1, 1}, .divisor = {}};
    const at::Tensor x = seeded({5, 2, 13, 11}, 1), bias = seeded({4}, 2);
    const at::Tensor weight = seeded({4, 2, 3, 5}, 3).requires_grad_();
    const at::Tensor y = at::convolution(x, weight, bias, {2, 1}, {padding, 2}, {1, 1}, false, {0, 0}, 1);
    const at::Tensor pooled = at::max_pool2d(y, {3, 2}, {2, 2}, {1, 0});
    conv.shape = y.sizes().slice(1).vec();
    pool.shape = pooled.sizes().slice(1).vec();
    const at::Tensor seed = seeded(pooled.sizes(), 4);
    const at::Tensor expected = grad({(pooled * seed).sum()}, {weight})[0];
    const ConvPool fused(conv, weight.detach(), bias, pool, {2, 13, 11});
    const auto found = fused.forward(x);
    REQUIRE(at::allclose(found.value, pooled, 1e-5, 1e-5));
    const at::Tensor one = fused.weight_gradient(x, seed, found.positions);
    REQUIRE(at::allclose(one, expected, 1e-4, 1e-4));
    at::set_num_threads(2);
    const at::Tensor two = fused.weight_gradient(x, seed, found.positions);
    at::set_num_threads(1);
    REQUIRE(same_bits(one, two));
  }
}

TEST_CASE("a chunk holds what fits, and at least one input", "[masked]") {
  REQUIRE(train::gradient_chunk(tiny_network(), 50) == 50);
  REQUIRE(train::gradient_chunk(tiny_network(), 1) == 1);
  REQUIRE(train::gradient_chunk(tiny_network(), int64_t{1} << 40) < int64_t{1} << 26);
}

TEST_CASE("balanced faults and balanced correct inputs", "[masked]") {
  const Split& split = tiny_data().split("repair");
  const locate::Judgement judgement = locate::judge_split(tiny_network(), split, 50);
  RandomStream stream(1);
  REQUIRE(locate::balanced_faults(judgement, 0, stream) == judgement.wrong);
  REQUIRE(locate::balanced_faults(judgement, 100, stream) == judgement.wrong);
  const std::vector<int64_t> few = locate::balanced_faults(judgement, 7, stream);
  REQUIRE(few.size() == 7);
  REQUIRE(std::ranges::includes(judgement.wrong, few));
  std::map<int64_t, int64_t> there, picked;
  for (const int64_t n : judgement.wrong) ++there[judgement.labels[n].item<int64_t>()];
  for (const int64_t n : few) ++picked[judgement.labels[n].item<int64_t>()];
  // One class has more than one more than another only where that one is used up.
  for (const auto& [one, count] : picked) {
    for (const auto& [other, all] : there) REQUIRE((count <= picked[other] + 1 || picked[other] == all));
  }
  const std::vector<int64_t> correct = locate::draw_balanced(judgement.correct, split.labels(), 8, stream);
  REQUIRE(correct.size() == 8);
  REQUIRE(std::ranges::includes(judgement.correct, correct));
  std::map<int64_t, int64_t> of_class, all_of_class;
  for (const int64_t n : correct) ++of_class[judgement.labels[n].item<int64_t>()];
  for (const int64_t n : judgement.correct) ++all_of_class[judgement.labels[n].item<int64_t>()];
  for (const auto& [one, count] : of_class) {
    for (const auto& [other, all] : all_of_class)
      REQUIRE((count <= of_class[other] + 1 || of_class[other] == all));
  }
  const InputSet inputs{&split, {3, 0, 5}};
  REQUIRE(inputs.labels(1, 3, at::kCPU).equal(split.labels().index_select(0, at::tensor({0L, 5L}))));
  REQUIRE(inputs.load(1, 3, at::kCPU).equal(split.inputs(at::tensor({0L, 5L}))));
  REQUIRE(accuracy(tiny_network(), {&split, judgement.wrong}, 7) == 0);
  REQUIRE(accuracy(tiny_network(), {&split, {judgement.wrong[0], judgement.correct[0]}}, 7) == 0.5);
}

}  // namespace
}  // namespace harness
