#include <ATen/Parallel.h>

#include <cmath>
#include <limits>

#include "approaches/localise/faults.hpp"
#include "approaches/search/candidate_evaluator.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::tiny_data;
using testing::tiny_network;

const std::vector<double> kNoFloor(16, -std::numeric_limits<double>::infinity());

// The fitness from a fork that carries the weights, in float64.
double plain_fitness(const std::vector<WeightRef>& weights, std::span<const double> values,
                     const Judgement& judgement, double alpha, bool compat) {
  Network network = tiny_network().fork();
  write_weights(network, weights, values);
  const Split& split = tiny_data().split("repair");
  at::Tensor logits = network.logits(split.inputs(0, split.size())).to(at::kDouble);
  const at::Tensor predicted = logits.argmax(1);
  if (compat) logits = logits.softmax(1);
  const at::Tensor losses = at::cross_entropy_loss(logits, split.labels(), {}, at::Reduction::None);
  const auto part = [&](const std::vector<int64_t>& samples) {
    double sum = 0;
    for (const int64_t n : samples) {
      const bool correct = predicted[n].item<int64_t>() == split.labels()[n].item<int64_t>();
      sum += correct ? 1 : 1 / (losses[n].item<double>() + 1);
    }
    return sum;
  };
  return part(judgement.correct) + alpha * part(judgement.wrong);
}

struct Case {
  std::string name;
  std::vector<WeightRef> weights;
  std::string way;
};

std::vector<Case> cases() {
  const std::vector<TargetLayer> layers = target_layers(tiny_network());
  const auto at = [&](size_t layer, int64_t index) { return WeightRef{layers[layer].weight, index}; };
  return {{"last layer, one class", {at(3, 3), at(3, 7)}, "touched_logits"},
          {"last layer, two classes", {at(3, 12), at(3, 31), at(3, 15)}, "touched_logits"},
          {"last layer, every class", {at(3, 2), at(3, 13), at(3, 25), at(3, 38)}, "touched_logits"},
          {"hidden dense layer", {at(2, 40), at(2, 91)}, "suffix"},
          {"second convolution", {at(1, 10), at(1, 77)}, "suffix"},
          {"first convolution and last layer", {at(0, 5), at(3, 17)}, "suffix"}};
}

TEST_CASE("fitness of candidates equals that of the whole network") {
  const Judgement judgement = judge_split(tiny_network(), tiny_data().split("repair"), 50);
  RandomStream stream(21);
  for (const Case& one : cases()) {
    for (const bool compat : {false, true}) {
      INFO(one.name << (compat ? ", softmax" : ""));
      const CandidateEvaluator evaluator({.network = tiny_network(),
                                          .split = tiny_data().split("repair"),
                                          .positives = judgement.correct,
                                          .negatives = judgement.wrong,
                                          .weights = one.weights,
                                          .alpha = 7,
                                          .compat_softmax = compat,
                                          .batch = 50});
      REQUIRE(evaluator.way() == one.way);
      const size_t size = one.weights.size(), count = 16;
      std::vector<double> candidates(count * size), fitness(count), single(1);
      for (double& value : candidates) value = 3 * stream.normal();
      at::set_num_threads(2);  // candidates in parallel
      evaluator.evaluate(candidates, kNoFloor, fitness);
      at::set_num_threads(1);
      double least = fitness[0], most = fitness[0];
      for (size_t k = 0; k < count; ++k) {
        const std::span<const double> candidate = std::span(candidates).subspan(k * size, size);
        const double expected = plain_fitness(one.weights, candidate, judgement, 7, compat);
        REQUIRE(fitness[k] == Approx(expected).epsilon(1e-5));
        evaluator.evaluate(candidate, std::span(kNoFloor).first(1), single);
        REQUIRE(single[0] == Approx(expected).epsilon(1e-5));
        least = std::min(least, expected);
        most = std::max(most, expected);

        // A floor may end the evaluation early, but never changes which side of it a candidate is on.
        for (const double shift : {-1.0, 0.0, 1.0}) {
          const double floor = single[0] + shift;
          std::vector<double> again(1);
          evaluator.evaluate(candidate, std::span(&floor, 1), again);
          if (shift <= 0) REQUIRE(again[0] == single[0]);
          if (shift > 0) REQUIRE(again[0] < floor);
        }
      }
      REQUIRE(most - least > 1);  // the candidates do differ
    }
  }
}

TEST_CASE("the original's own weights give the original's verdict") {
  const Judgement judgement = judge_split(tiny_network(), tiny_data().split("repair"), 50);
  for (const Case& one : cases()) {
    const CandidateEvaluator evaluator({.network = tiny_network(),
                                        .split = tiny_data().split("repair"),
                                        .positives = judgement.correct,
                                        .negatives = judgement.wrong,
                                        .weights = one.weights});
    const std::vector<float> values = read_weights(tiny_network(), one.weights);
    const Verdict verdict = evaluator.judge(std::vector<double>(values.begin(), values.end()));
    REQUIRE(verdict.positive.count == 0);
    REQUIRE(verdict.negative.count == static_cast<int64_t>(judgement.wrong.size()));
  }
}

TEST_CASE("random weights are distinct and within their kernels") {
  const std::vector<TargetLayer> layers = target_layers(tiny_network());
  int64_t all = 0;
  for (const TargetLayer& layer : layers) all += tiny_network().parameters()[layer.weight].value.numel();
  REQUIRE(all == 54 + 108 + 160 + 40);
  RandomStream stream(2);
  const std::vector<WeightRef> every = random_weights(tiny_network(), layers, 1000, stream);
  REQUIRE(static_cast<int64_t>(every.size()) == all);
  for (size_t k = 1; k < every.size(); ++k) {
    REQUIRE((every[k].parameter != every[k - 1].parameter ? every[k].index == 0
                                                          : every[k].index == every[k - 1].index + 1));
  }
  REQUIRE(random_weights(tiny_network(), layers, 9, stream).size() == 9);
}

}  // namespace
}  // namespace harness
