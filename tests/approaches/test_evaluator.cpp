#include <ATen/Parallel.h>

#include <cmath>
#include <limits>
#include <set>

#include "approaches/locate/faults.hpp"
#include "approaches/search/evaluation_strategy.hpp"
#include "approaches/search/split_pass.hpp"
#include "tests/approaches/convolution_counter.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::tiny_data;
using testing::tiny_network;

const std::vector<double> kNoFloor(16, -std::numeric_limits<double>::infinity());

// The fitness from a fork that carries the weights, in float64.
double plain_fitness(const std::vector<WeightRef>& weights, std::span<const double> values,
                     const locate::Judgement& judgement, double alpha, bool compat) {
  Network network = tiny_network().fork();
  apply_edits(network, edits_of(weights, values));
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

std::vector<InputSet> inputs_of(const locate::Judgement& judgement) {
  const Split* split = &tiny_data().split("repair");
  return {{split, judgement.correct, false}, {split, judgement.wrong, true}};
}

struct Case {
  std::string name;
  std::vector<WeightRef> weights;
  std::string strategy;
};

std::vector<Case> cases() {
  const std::vector<TargetLayer> layers = target_layers(tiny_network());
  const auto at = [&](size_t layer, int64_t index) { return WeightRef{layers[layer].weight, index}; };
  return {{"last layer, one class", {at(3, 3), at(3, 7)}, "touched_logits"},
          {"last layer, two classes", {at(3, 12), at(3, 31), at(3, 15)}, "touched_logits"},
          {"last layer, every class", {at(3, 2), at(3, 13), at(3, 25), at(3, 38)}, "touched_logits"},
          {"hidden dense layer", {at(2, 40), at(2, 91)}, "dense"},
          {"second convolution", {at(1, 10), at(1, 77)}, "suffix"},
          {"first convolution and last layer", {at(0, 5), at(3, 17)}, "suffix"}};
}

TEST_CASE("fitness of candidates equals that of the whole network") {
  const locate::Judgement judgement = locate::judge_split(tiny_network(), tiny_data().split("repair"), 50);
  RandomStream stream(21);
  for (const Case& one : cases()) {
    for (const bool compat : {false, true}) {
      INFO(one.name << (compat ? ", softmax" : ""));
      const search::CandidateEvaluator evaluator({.network = tiny_network(),
                                                  .inputs = inputs_of(judgement),
                                                  .weights = one.weights,
                                                  .objective = search::arachne_objective(7, compat),
                                                  .batching = 50});
      REQUIRE(evaluator.strategy() == one.strategy);
      const size_t size = one.weights.size(), count = 16;
      std::vector<double> candidates(count * size), fitness(count), single(1);
      for (double& value : candidates) value = 3 * stream.normal();
      at::set_num_threads(2);  // candidates in parallel
      evaluator.evaluate(candidates, kNoFloor, fitness);
      at::set_num_threads(1);
      double min_value = fitness[0], maximum = fitness[0];
      for (size_t k = 0; k < count; ++k) {
        const std::span<const double> candidate = std::span(candidates).subspan(k * size, size);
        const double expected = plain_fitness(one.weights, candidate, judgement, 7, compat);
        REQUIRE(fitness[k] == Approx(expected).epsilon(1e-5));
        evaluator.evaluate(candidate, std::span(kNoFloor).first(1), single);
        REQUIRE(single[0] == Approx(expected).epsilon(1e-5));
        min_value = std::min(min_value, expected);
        maximum = std::max(maximum, expected);

        // A floor may end the evaluation early, but never changes which side of it a candidate is on.
        for (const double shift : {-1.0, 0.0, 1.0}) {
          const double floor = single[0] + shift;
          std::vector<double> again(1);
          evaluator.evaluate(candidate, std::span(&floor, 1), again);
          if (shift <= 0) REQUIRE(again[0] == single[0]);
          if (shift > 0) REQUIRE(again[0] < floor);
        }
      }
      REQUIRE(maximum - min_value > 1);  // the candidates do differ
    }
  }
}

TEST_CASE("the original's own weights give the original's verdict") {
  const locate::Judgement judgement = locate::judge_split(tiny_network(), tiny_data().split("repair"), 50);
  for (const Case& one : cases()) {
    const search::CandidateEvaluator evaluator({.network = tiny_network(),
                                                .inputs = inputs_of(judgement),
                                                .weights = one.weights,
                                                .objective = search::arachne_objective(10, false)});
    const std::vector<float> values = read_weights(tiny_network(), one.weights);
    const search::Verdict verdict = evaluator.judge(std::vector<double>(values.begin(), values.end()));
    REQUIRE(verdict.positive.misses == 0);
    REQUIRE(verdict.negative.misses == static_cast<int64_t>(judgement.wrong.size()));
  }
}

TEST_CASE("a hopeless candidate is left after a few of the narrowest inputs") {
  const locate::Judgement judgement = locate::judge_split(tiny_network(), tiny_data().split("repair"), 50);
  const std::vector<InputSet> inputs = inputs_of(judgement);
  int64_t ways = 0;
  for (const Case& one : cases()) {
    if (one.strategy == "touched_logits") continue;
    INFO(one.name);
    ++ways;
    int64_t polls = 0;
    const search::CandidateEvaluator evaluator({.network = tiny_network(),
                                                .inputs = inputs,
                                                .weights = one.weights,
                                                .objective = search::arachne_objective(7, false),
                                                .batching = 50,
                                                .stop = [&] { return ++polls < 0; }});
    // With zeros for the weights some inputs are wrong, and the floor admits no fault at all.
    const std::vector<double> zeros(one.weights.size(), 0);
    const double best = static_cast<double>(judgement.correct.size()) + 7 * 20.0;
    std::vector<double> fitness(1);
    std::vector<search::Verdict> verdicts(1);
    evaluator.evaluate(zeros, std::span(&best, 1), fitness, verdicts);
    CHECK(fitness[0] < best);
    CHECK(polls == 1);  // one pass over 16 inputs
    CHECK(verdicts[0].positive.misses + verdicts[0].negative.misses <= 16);
    // A floor that it reaches, or none: 16, 32, 50 and 22 inputs.
    for (const double floor : {evaluator.fitness(zeros), -1e9}) {
      polls = 0;
      evaluator.evaluate(zeros, std::span(&floor, 1), fitness, verdicts);
      CHECK(polls == 4);
      CHECK(fitness[0] == evaluator.fitness(zeros));
      CHECK(verdicts[0].negative.misses == evaluator.judge(zeros).negative.misses);
    }
  }
  REQUIRE(ways == 3);
}

TEST_CASE("what an earlier pass knows gives the evaluator that makes it itself, and saves that pass") {
  const Split& split = tiny_data().split("repair");
  const locate::Judgement judgement = locate::judge_split(tiny_network(), split, 50);
  const std::vector<InputSet> inputs = inputs_of(judgement);
  std::vector<int64_t> order = judgement.correct;
  order.insert(order.end(), judgement.wrong.begin(), judgement.wrong.end());
  const search::SplitPass pass(tiny_network(), split, 50);
  RandomStream stream(24);
  for (const Case& one : cases()) {
    INFO(one.name);
    search::EvaluatorSetup setup{.network = tiny_network(),
                                 .inputs = inputs,
                                 .weights = one.weights,
                                 .objective = search::arachne_objective(7, false),
                                 .batching = 50};
    const auto made = [&](int64_t* convolutions) {
      const testing::ConvolutionCounter counter;
      auto evaluator = std::make_unique<search::CandidateEvaluator>(setup);
      evaluator->original_fitness();
      *convolutions = counter.count();
      return evaluator;
    };
    int64_t of_alone = 0, of_known = 0;
    const auto alone = made(&of_alone);
    setup.known = pass.known(order);
    const auto known = made(&of_known);
    CHECK(of_alone - of_known == 3 * 2);  // a pass in three batches, through two convolutions
    // Behind convolutions the rest is done with the first candidate that gets there, and once.
    if (one.strategy != "dense") CHECK(of_known == 0);
    if (one.strategy == "suffix") {
      const auto of_one = [&] {
        const testing::ConvolutionCounter counter;
        known->fitness(known->original_values());
        return counter.count();
      };
      const int64_t first = of_one(), second = of_one();
      CHECK(first > second);
      CHECK(of_one() == second);
    }
    CHECK(known->original_fitness() == Approx(alone->original_fitness()).epsilon(1e-6));
    CHECK(alone->original_fitness() == Approx(alone->fitness(alone->original_values())).epsilon(1e-6));
    CHECK(alone->original_verdict().positive.misses == 0);
    CHECK(alone->original_verdict().negative.misses == 20);
    for (int k = 0; k < 5; ++k) {
      std::vector<double> values(one.weights.size());
      for (double& value : values) value = stream.normal();
      CHECK(known->fitness(values) == Approx(alone->fitness(values)).epsilon(1e-5));
      CHECK(known->classify(values) == alone->classify(values));
    }
  }
}

TEST_CASE("trials together: where threads or another device make them faster, and nowhere else") {
  const locate::Judgement judgement = locate::judge_split(tiny_network(), tiny_data().split("repair"), 50);
  for (const Case& one : cases()) {
    INFO(one.name);
    const search::CandidateEvaluator evaluator({.network = tiny_network(),
                                                .inputs = inputs_of(judgement),
                                                .weights = one.weights,
                                                .objective = search::arachne_objective(7, false)});
    CHECK(evaluator.together() == 1);
    at::set_num_threads(2);
    CHECK(evaluator.together() == (one.strategy == "touched_logits" ? 16 : 1));
    at::set_num_threads(1);
  }
}

// Classes and losses from a fork that carries the weights, against every way of the evaluator.
TEST_CASE("classes and losses of candidates equal those of the whole network") {
  const locate::Judgement judgement = locate::judge_split(tiny_network(), tiny_data().split("repair"), 50);
  RandomStream stream(22);
  std::vector<Case> all = cases();
  const TargetLayer last = target_layers(tiny_network()).back();
  Case every{"every weight of the last layer", {}, "touched_logits"};
  for (int64_t index = 0; index < 40; ++index) every.weights.push_back({last.weight, index});
  all.push_back(every);
  for (const Case& one : all) {
    INFO(one.name);
    const search::Objective objective{
        .measure = search::Measure::losses,
        .value = [](const search::Verdict& v) { return -v.positive.loss - v.negative.loss; }};
    const search::CandidateEvaluator evaluator({.network = tiny_network(),
                                                .inputs = inputs_of(judgement),
                                                .weights = one.weights,
                                                .objective = objective,
                                                .batching = 50});
    std::vector<int64_t> positions = judgement.correct;
    positions.insert(positions.end(), judgement.wrong.begin(), judgement.wrong.end());
    const Split& split = tiny_data().split("repair");
    const at::Tensor labels = split.labels().index_select(0, at::tensor(positions, at::kLong));
    for (int round = 0; round < 5; ++round) {
      std::vector<double> values(one.weights.size());
      for (double& value : values) value = stream.normal();
      Network network = tiny_network().fork();
      apply_edits(network, edits_of(one.weights, values));
      const at::Tensor logits =
          network.logits(split.inputs(at::tensor(positions, at::kLong))).to(at::kDouble);
      const at::Tensor losses = at::cross_entropy_loss(logits, labels, {}, at::Reduction::None);
      const auto kept = static_cast<int64_t>(judgement.correct.size()), whole = labels.size(0);
      const search::Verdict verdict = evaluator.judge(values);
      CHECK(verdict.positive.loss == Approx(losses.slice(0, 0, kept).sum().item<double>()).epsilon(1e-5));
      CHECK(verdict.negative.loss == Approx(losses.slice(0, kept, whole).sum().item<double>()).epsilon(1e-5));
      const at::Tensor right = logits.argmax(1).eq(labels);
      CHECK(verdict.positive.correct() == right.slice(0, 0, kept).sum().item<int64_t>());
      CHECK(verdict.negative.correct() == right.slice(0, kept, whole).sum().item<int64_t>());
      const std::vector<int32_t> classes = evaluator.classify(values);
      CHECK(at::equal(at::tensor(classes, at::kInt), logits.argmax(1).to(at::kInt)));
    }
  }
}

// The dense way serves the last layer, too, where many classes are touched.
TEST_CASE("the dense way judges candidates of the last layer") {
  const locate::Judgement judgement = locate::judge_split(tiny_network(), tiny_data().split("repair"), 50);
  const TargetLayer last = target_layers(tiny_network()).back();
  search::EvaluatorSetup setup{.network = tiny_network(),
                               .inputs = inputs_of(judgement),
                               .weights = {{last.weight, 3}, {last.weight, 17}, {last.weight, 38}},
                               .objective = search::arachne_objective(7, false),
                               .batching = 50};
  const search::CandidateEvaluator evaluator(setup);
  REQUIRE(evaluator.strategy() == "touched_logits");
  const search::SearchInputs inputs(setup.network, setup.inputs);
  setup.known.logits = tiny_network().logits(inputs.load(at::arange(inputs.size())));
  const auto dense = search::dense_strategy(setup, inputs, last);
  RandomStream stream(23);
  std::vector<double> candidates(3 * 8);
  for (double& value : candidates) value = 2 * stream.normal();
  std::vector<search::Verdict> verdicts(8);
  dense->judge(candidates, std::span(kNoFloor).first(8), verdicts, {});
  std::set<int64_t> kinds;
  for (size_t k = 0; k < 8; ++k) {
    const auto candidate = std::span(candidates).subspan(3 * k, 3);
    const search::Verdict expected = evaluator.judge(candidate);
    CHECK(verdicts[k].positive.misses == expected.positive.misses);
    CHECK(verdicts[k].negative.misses == expected.negative.misses);
    CHECK(verdicts[k].positive.miss_score == Approx(expected.positive.miss_score).epsilon(1e-5));
    std::vector<int32_t> classes(static_cast<size_t>(inputs.size()));
    dense->classify(candidate, classes);
    CHECK(classes == evaluator.classify(candidate));
    kinds.insert(expected.positive.misses);
  }
  CHECK(kinds.size() > 1);  // the candidates do differ
}

// Inputs of two splits, in any order and with repeats.
TEST_CASE("inputs of several splits are loaded by number") {
  const Split &repair = tiny_data().split("repair"), &train = tiny_data().split("train");
  const search::SearchInputs inputs(tiny_network(), {{&train, {5, 3, 3}, false}, {&repair, {7, 0}, true}});
  REQUIRE(inputs.size() == 5);
  const search::Verdict blank = inputs.blank();
  CHECK(blank.positive.inputs == 3);
  CHECK(blank.negative.inputs == 2);
  const at::Tensor wanted =
      at::cat({train.inputs(at::tensor({5, 3, 3}, at::kLong)), repair.inputs(at::tensor({7, 0}, at::kLong))});
  const at::Tensor order = at::tensor({4, 0, 2, 3, 1, 0}, at::kLong);
  CHECK(at::equal(inputs.load(order), wanted.index_select(0, order)));
  CHECK(at::equal(inputs.load(at::tensor({1, 0}, at::kLong)),
                  wanted.index_select(0, at::tensor({1, 0}, at::kLong))));
  CHECK(inputs.labels()[3].item<int64_t>() == repair.labels()[7].item<int64_t>());
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
