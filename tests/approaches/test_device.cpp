// What must hold on a GPU, tried on a device that only pretends to be one.

#include <cstring>

#include "approaches/search/candidate_evaluator.hpp"
#include "approaches/train/trainer.hpp"
#include "approaches/train/weight_gradients.hpp"
#include "approaches/weights.hpp"
#include "harness/model/autograd.hpp"
#include "harness/model/dropout_mask.hpp"
#include "harness/model/fast/input_gradient.hpp"
#include "harness/model/memory_class.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/entries.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/approaches/headed.hpp"
#include "tests/approaches/pretend_device.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::branched_network;
using testing::brief;
using testing::headed_network;
using testing::pretend_device;
using testing::take_pretended_calls;
using testing::tiny_data;
using testing::tiny_network;

Network pretended(const Network& network) {
  Network copy = network.fork();
  copy.to(pretend_device());
  return copy;
}

at::Tensor repair_inputs(int64_t count) {
  return tiny_data().split("repair").inputs(0, count);
}

bool close_to(const at::Tensor& a, const at::Tensor& b) {
  return at::allclose(a.cpu(), b.cpu(), 1e-4, 1e-5);
}

TEST_CASE("the pretended device has the manners of CUDA", "[device]") {
  const at::Tensor here = at::ones({3, 4}), there = here.to(pretend_device());
  REQUIRE(there.device() == pretend_device());
  REQUIRE(at::equal((there.t().matmul(there) + 1).cpu(), here.t().matmul(here) + 1));
  REQUIRE_THROWS_AS(there + here, c10::Error);
  REQUIRE_THROWS_AS(there.matmul(here.t()), c10::Error);
  REQUIRE_THROWS_AS(at::conv2d(at::ones({1, 1, 4, 4}, there.options()), at::ones({1, 1, 3, 3})), c10::Error);
  REQUIRE_THROWS_AS(at::empty({3}, there.options()).bernoulli_(0.5, at::detail::createCPUGenerator(1)),
                    c10::Error);
  const at::Tensor x = at::ones({4, 2}, there.options()), w = at::ones({2}, there.options());
  REQUIRE_THROWS_AS(at::native_batch_norm_backward(x, x, w, w, w, {}, {}, false, 1e-5, {false, true, true}),
                    c10::Error);
  take_pretended_calls();
  REQUIRE(there.sum().item<double>() == 12);
  there.cpu();
  REQUIRE(take_pretended_calls().at("read") == 2);
}

TEST_CASE("passes in train mode, their gradients and dropout masks are the CPU's on another device",
          "[device]") {
  for (const Network* network : {&headed_network(), &branched_network()}) {
    Network here = network->fork(), there = pretended(*network);
    std::vector<at::Tensor> logits, gradients;
    for (Network* one : {&here, &there}) {
      one->require_grad(true);
      const at::Tensor z = one->training_logits(repair_inputs(9).to(one->device()), 5);
      std::vector<at::Tensor> weights, parts;
      for (const ParameterId id : train::trainable_parameters(*one))
        weights.push_back(one->parameters()[id].value);
      for (const at::Tensor& part : grad({z.square().sum()}, weights)) parts.push_back(part.cpu().flatten());
      logits.push_back(z);
      gradients.push_back(at::cat(parts));
    }
    REQUIRE(close_to(logits[0], logits[1]));
    REQUIRE(close_to(gradients[0], gradients[1]));
  }
  const at::TensorOptions options(at::kFloat);
  REQUIRE(at::equal(dropout_mask({64, 33}, 0.4, 7, options.device(pretend_device())).cpu(),
                    dropout_mask({64, 33}, 0.4, 7, options)));
}

TEST_CASE("gradients of weights are autograd's on another device, batch norm with and without weights",
          "[device]") {
  for (const Network* network : {&headed_network(), &branched_network(), &tiny_network()}) {
    Network there = pretended(*network), plain = network->fork();
    const train::FlatWeights weights(there, train::trainable_parameters(there));
    train::WeightGradients gradients(there, weights, 2);
    const at::Tensor x = repair_inputs(10), seed = at::linspace(-1, 1, 40).view({10, 4});
    const at::Tensor some = at::tensor({1, 4, 7}, at::kLong);
    gradients.forward(x.to(there.device()));
    gradients.backward(seed.to(there.device()), {{{}, 0}, {some.to(there.device()), 1}});
    plain.require_grad(true);
    std::vector<at::Tensor> wanted;
    for (const ParameterId id : weights.parameters()) wanted.push_back(plain.parameters()[id].value);
    const auto expected = [&](const at::Tensor& rows) {
      const at::Tensor z = plain.differentiable_logits(x.index_select(0, rows));
      const train::FlatWeights layout(plain, weights.parameters());
      return layout.join(grad({(z * seed.index_select(0, rows)).sum()}, wanted));
    };
    REQUIRE(close_to(gradients.sum(0), expected(at::arange(10))));
    REQUIRE(close_to(gradients.sum(1), expected(some)));
    const InputGradient::Seed same = [&](const at::Tensor&) { return seed.to(there.device()).clone(); };
    const at::Tensor of_inputs = InputGradient(there, InputGradient::Of::logits)(x.to(there.device()), same);
    const InputGradient::Seed here = [&](const at::Tensor&) { return seed.clone(); };
    REQUIRE(close_to(of_inputs, InputGradient(*network, InputGradient::Of::logits)(x, here)));
  }
}

TEST_CASE("many candidates of weights are written and read at once", "[device]") {
  const std::vector<TargetLayer> layers = target_layers(tiny_network());
  RandomStream stream(9);
  const std::vector<WeightRef> mixed = random_weights(tiny_network(), layers, 60, stream),
                               single = random_weights(tiny_network(), {layers[1]}, 30, stream);
  const Network there = pretended(tiny_network());
  std::vector<double> values(4 * single.size());
  for (double& value : values) value = stream.normal();
  take_pretended_calls();
  const std::vector<float> read = read_weights(there, mixed);
  REQUIRE(take_pretended_calls().at("read") <= static_cast<int64_t>(layers.size()));
  REQUIRE(read == read_weights(tiny_network(), mixed));
  for (size_t k = 0; k < mixed.size(); ++k) {
    const at::Tensor kernel = tiny_network().parameters()[mixed[k].parameter].value.flatten();
    REQUIRE(read[k] == kernel[mixed[k].index].item<float>());
  }
  const at::Tensor stacked = stacked_kernels(there, single, values);
  const auto calls = take_pretended_calls();
  REQUIRE(calls.count("aten::fill_") == 0);
  REQUIRE(calls.at("aten::index_copy") == 1);
  for (size_t k = 0; k < 4; ++k) {
    const std::span<const double> some = std::span(values).subspan(k * single.size(), single.size());
    const at::Tensor kernel = overrides(tiny_network(), edits_of(single, some)).at(single[0].parameter);
    REQUIRE(at::equal(stacked[static_cast<int64_t>(k)].cpu(), kernel));
    at::Tensor expected = tiny_network().parameters()[single[0].parameter].value.clone();
    for (size_t i = 0; i < single.size(); ++i)
      expected.view(-1)[single[i].index] = static_cast<float>(some[i]);
    REQUIRE(at::equal(kernel, expected));
  }
}

std::map<std::string, at::Tensor> set_of(const Network& network, double factor) {
  std::map<std::string, at::Tensor> set;
  for (const Parameter& parameter : network.parameters())
    set[parameter.name] =
        parameter.value.is_floating_point() ? parameter.value.cpu() * factor : parameter.value.cpu();
  return set;
}

testing::Outcome fixed(const ApproachInfo& info, const std::string& shadow, const Network& network,
                       int64_t steps) {
  nlohmann::json parameters = brief(info, steps);
  if (!shadow.empty()) parameters.update(brief(find_approach(shadow)->info, steps));
  FixContext::Setup setup = testing::setup_for(info.key, parameters, shadow);
  setup.history = {set_of(network, 1.05), set_of(network, 1)};
  return testing::run(std::move(setup), network);
}

TEST_CASE("every approach does on another device what it does on the CPU", "[device]") {
  int fixes = 0;
  for (const Approach& approach : approaches()) {
    std::vector<std::string> shadows = {""};
    if (approach.info.shadows) {
      shadows.clear();
      for (const Approach& other : approaches()) {
        if (other.fix_with_random_locator && approach.info.key == "RAND") shadows.push_back(other.info.key);
      }
      if (approach.info.key != "RAND") shadows = {""};
    }
    for (const std::string& shadow : shadows) {
      for (const Network* network : {&tiny_network(), &headed_network(), &branched_network()}) {
        const std::optional<TrainingConfig> training;
        const FixContext::Setup setup =
            testing::setup_for(approach.info.key, brief(approach.info, 4), shadow);
        const FixRequest checked{.network = network,
                                 .data = &tiny_data(),
                                 .hyperparameters = setup.hyperparameters,
                                 .shadow = shadow,
                                 .training = training,
                                 .history = {set_of(*network, 1.05), set_of(*network, 1)}};
        if (approach.adapt(checked)) continue;
        INFO(approach.info.key << ' ' << shadow << ", network of " << network->nodes().size() << " nodes");
        const testing::Outcome here = fixed(approach.info, shadow, *network, 4);
        const Network moved = pretended(*network);
        take_pretended_calls();
        const testing::Outcome there = fixed(approach.info, shadow, moved, 4);
        const auto calls = take_pretended_calls();
        // Neither has a deterministic form on CUDA, or only a slow one.
        REQUIRE(calls.count("aten::index_add_") == 0);
        REQUIRE(calls.count("accumulate") == 0);
        REQUIRE(there.result.failure.code == here.result.failure.code);
        REQUIRE(there.result.network.has_value() == here.result.network.has_value());
        REQUIRE(there.log.counters.size() == here.log.counters.size());
        ++fixes;
        if (!there.result.network) continue;
        for (const Parameter& parameter : there.result.network->parameters())
          REQUIRE(parameter.value.device() == pretend_device());
      }
    }
  }
  REQUIRE(fixes > 20);
}

TEST_CASE("no step waits for the device that need not", "[device]") {
  const auto reads = [](const std::string& key, const Network& original, int64_t steps) {
    const Network network = pretended(original);
    take_pretended_calls();
    const testing::Outcome outcome = fixed(find_approach(key)->info, "", network, steps);
    REQUIRE(outcome.log.counters.at("optimiser_steps") == steps);
    return take_pretended_calls()["read"];
  };
  REQUIRE(reads("CT", headed_network(), 40) == reads("CT", headed_network(), 10));
  // The faults still there, and whether all is finite, decide whether there is a next step.
  REQUIRE(reads("IR", tiny_network(), 14) - reads("IR", tiny_network(), 4) <= 3 * 10);
}

TEST_CASE("candidates for many weights are judged on another device without waiting for each", "[device]") {
  const Network there = pretended(tiny_network());
  const std::vector<TargetLayer> layers = target_layers(there);
  const Split* split = &tiny_data().split("repair");
  std::vector<int64_t> positions(static_cast<size_t>(split->size()));
  for (size_t n = 0; n < positions.size(); ++n) positions[n] = static_cast<int64_t>(n);
  for (const size_t layer : {size_t{0}, size_t{1}, size_t{2}}) {
    RandomStream stream(4);
    const std::vector<WeightRef> weights = random_weights(there, {layers[layer]}, 12, stream);
    std::vector<double> candidates(20 * weights.size()), found(20), expected(20);
    for (double& value : candidates) value = stream.normal();
    const auto judged = [&](const Network& network, std::vector<double>& fitness) {
      const search::CandidateEvaluator evaluator({.network = network,
                                                  .inputs = {{split, positions, false}},
                                                  .weights = weights,
                                                  .objective = search::arachne_objective(7, false),
                                                  .batching = 60});
      take_pretended_calls();
      evaluator.evaluate(candidates, fitness);
    };
    judged(tiny_network(), expected);
    judged(there, found);
    const auto calls = take_pretended_calls();
    INFO("layer " << layer);
    REQUIRE(calls.count("aten::fill_") == 0);
    REQUIRE(calls.at("read") <= 4);  // two slabs of inputs
    for (size_t k = 0; k < found.size(); ++k) REQUIRE(found[k] == Approx(expected[k]).epsilon(1e-4));
  }
}

TEST_CASE("what a device may hold follows from its class", "[device]") {
  constexpr int64_t kGibibyte = int64_t{1} << 30;
  REQUIRE(memory_class_of(0) == MemoryClass::cuda_small);
  REQUIRE(memory_class_of(24 * kGibibyte) == MemoryClass::cuda_small);
  REQUIRE(memory_class_of(32 * kGibibyte - kGibibyte / 3) == MemoryClass::cuda_large);
  REQUIRE(memory_class_of(80 * kGibibyte) == MemoryClass::cuda_large);
  REQUIRE(memory_class(at::kCPU) == MemoryClass::cpu);
  REQUIRE(values_together(at::kCPU, 5) == 5);
  REQUIRE(cache_bytes(at::kCPU) == 4 * kGibibyte);
}

}  // namespace
}  // namespace harness
