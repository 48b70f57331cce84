#include <algorithm>
#include <set>

#include "approaches/locate/faults.hpp"
#include "approaches/locate/suspicious.hpp"
#include "approaches/search/patches.hpp"
#include "harness/model/autograd.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::changed_values;
using testing::MemorySlot;
using testing::Outcome;
using testing::run;
using testing::setup_for;
using testing::tiny_data;
using testing::tiny_network;

const nlohmann::json kSmall = {{"types", 3}, {"least_negatives", 2}, {"particles", 12}, {"iterations", 15}};

std::optional<Refusal> refusal_for(const std::vector<int64_t>& sizes) {
  const Approach& approach = *find_approach("DTR");
  const Hyperparameters parameters = hyperparameters_of(approach.info, Hyperparameters());
  return approach.adapt({.network = &tiny_network(),
                         .data = &tiny_data(),
                         .hyperparameters = parameters,
                         .repair_error_types = sizes});
}

TEST_CASE("error types come by size, with the inputs that are of them") {
  const locate::Judgement judgement = locate::judge_split(tiny_network(), tiny_data().split("repair"), 50);
  const std::vector<locate::ErrorType> types = locate::error_types(judgement);
  std::set<int64_t> all;
  for (size_t k = 0; k < types.size(); ++k) {
    if (k > 0) CHECK(types[k].negatives.size() <= types[k - 1].negatives.size());
    CHECK(types[k].label != types[k].predicted);
    for (const int64_t n : types[k].negatives) {
      CHECK(judgement.labels[n].item<int64_t>() == types[k].label);
      CHECK(judgement.predictions[n].item<int64_t>() == types[k].predicted);
      CHECK(all.insert(n).second);
    }
  }
  CHECK(all.size() == judgement.wrong.size());
}

TEST_CASE("patches are merged between the smallest and the largest value") {
  const ParameterId kernel = tiny_network().find_parameter("fc2.weight");
  REQUIRE(kernel >= 0);
  const auto weight = [&](int64_t index) { return WeightRef{kernel, index}; };
  const float own0 = read_weights(tiny_network(), {weight(0)})[0];
  const float own1 = read_weights(tiny_network(), {weight(1)})[0];
  const float own2 = read_weights(tiny_network(), {weight(2)})[0];
  // the second patch has no weight of its own: weight 1 is shared
  const search::PatchMerge merge(tiny_network(),
                                 {{{weight(0), weight(1), weight(2)}, {own0 + 2.0, own1 + 1.0, own2 - 4.0}},
                                  {{weight(1)}, {own1 - 3.0}}});
  REQUIRE(merge.coefficients() == 2);
  REQUIRE((merge.weights() == std::vector<WeightRef>{weight(0), weight(2), weight(1)}));
  const std::vector<double> values = merge.values(std::vector<double>{0.25, 0.5});
  CHECK(values[0] == Approx(own0 + 0.25 * 2));
  CHECK(values[1] == Approx(own2 - 4 + 0.25 * 4));
  CHECK(values[2] == Approx(own1 - 3 + 0.5 * 4));
}

// Both scores from autograd and from the definition, and the front by comparing all pairs.
TEST_CASE("suspicious weights are the front of gradient and impact") {
  const Split& split = tiny_data().split("repair");
  const TargetLayer layer = target_layers(tiny_network()).back();
  const std::vector<int64_t> negatives = locate::judge_split(tiny_network(), split, 50).wrong;
  const at::Tensor numbers = at::tensor(negatives, at::kLong);
  Network network = tiny_network().fork();
  network.require_grad(true);
  const at::AutoGradMode with_grad(true);
  const at::Tensor& kernel = network.parameters()[layer.weight].value;
  const std::vector<at::Tensor> values =
      network.activations(split.inputs(numbers), {layer.input, layer.node});
  const at::Tensor loss =
      at::cross_entropy_loss(values[1], split.labels().index_select(0, numbers), {}, at::Reduction::Sum);
  const at::Tensor gradient = grad({loss}, {kernel})[0].abs().flatten();
  for (const bool first_only : {false, true}) {
    const at::Tensor input = first_only ? values[0][0].abs() : values[0].abs().mean(0);
    const at::Tensor impact = (kernel.abs() * input).detach().flatten();
    std::vector<int64_t> front;
    for (int64_t i = 0; i < gradient.numel(); ++i) {
      const at::Tensor beats = gradient.ge(gradient[i])
                                   .logical_and(impact.ge(impact[i]))
                                   .logical_and(gradient.gt(gradient[i]).logical_or(impact.gt(impact[i])));
      if (!beats.any().item<bool>() && (gradient[i].item<double>() > 0)) front.push_back(i);
    }
    std::vector<int64_t> found;
    for (const WeightRef& weight : locate::suspicious_weights(tiny_network(), layer, split, negatives,
                                                              {.first_only = first_only, .batching = 7})) {
      CHECK(weight.parameter == layer.weight);
      found.push_back(weight.index);
    }
    CHECK(found == front);
    CHECK_FALSE(front.empty());
  }
  // with few candidates, those of the greatest gradient
  const auto few = locate::suspicious_weights(tiny_network(), layer, split, negatives, {.candidates = 1});
  REQUIRE(few.size() == 1);
  CHECK(few[0].index == gradient.argmax().item<int64_t>());
}

TEST_CASE("DTR needs so many types of error") {
  CHECK_FALSE(refusal_for({6, 6, 6, 6, 6, 6, 6, 6}).has_value());
  CHECK(refusal_for({50, 6, 6, 6, 6, 6, 6, 5})->code == "too_few_error_types");
  CHECK(refusal_for({30, 12})->code == "too_few_error_types");  // two classes
}

TEST_CASE("DTR changes weights of the last layer alone, and those it says") {
  const Outcome outcome = run(setup_for("DTR", kSmall));
  REQUIRE(outcome.result.network.has_value());
  CHECK(outcome.log.scalars.at("error_types") == 3);
  CHECK(outcome.log.scalars.at("experts") >= 1);
  CHECK(outcome.log.counters.at("evaluations") > 0);
  CHECK(outcome.log.series.at("expert_fitness").size() ==
        static_cast<size_t>(outcome.log.scalars.at("experts")));
  REQUIRE(outcome.result.touched.weights.size() == 1);
  const auto& [name, indices] = *outcome.result.touched.weights.begin();
  CHECK(name == "fc2.weight");
  CHECK(static_cast<double>(indices.size()) == outcome.log.scalars.at("changed"));
  const auto changed = changed_values(tiny_network(), *outcome.result.network);
  CHECK_FALSE(changed.empty());
  for (const auto& [parameter, index] : changed) {
    CHECK(parameter == name);
    CHECK(std::count(indices.begin(), indices.end(), index) == 1);
  }
}

// The score of the model that comes out, computed from its own predictions on the inputs of the integration.
TEST_CASE("DTR's score is mean recall less the rate of the errors searched") {
  const Outcome outcome = run(setup_for("DTR", kSmall));
  const Split& split = tiny_data().split("repair");
  const locate::Judgement before = locate::judge_split(tiny_network(), split, 50);
  const at::Tensor after = outcome.result.network->classify(split.inputs(0, split.size()));
  std::vector<int64_t> inputs = before.correct;
  std::vector<locate::ErrorType> types = locate::error_types(before);
  types.resize(3);
  for (const locate::ErrorType& type : types) {
    inputs.insert(inputs.end(), type.negatives.begin(), type.negatives.end());
  }
  double recall = 0, risk = 0;
  int64_t there = 0;
  for (int64_t c = 0; c < tiny_network().classes(); ++c) {
    double right = 0, all = 0;
    std::map<int64_t, double> taken_for;
    for (const int64_t n : inputs) {
      if (split.labels()[n].item<int64_t>() != c) continue;
      ++all;
      right += after[n].item<int64_t>() == c;
      ++taken_for[after[n].item<int64_t>()];
    }
    if (all == 0) continue;
    ++there;
    recall += right / all;
    for (const locate::ErrorType& type : types) {
      if (type.label == c) risk += taken_for[type.predicted] / all;
    }
  }
  REQUIRE(outcome.log.scalars.at("experts") == 3);
  CHECK(outcome.log.scalars.at("best_score") ==
        Approx(recall / static_cast<double>(there) - 0.5 * risk / 3).epsilon(1e-9));
}

TEST_CASE("DTR goes on bit for bit wherever it is stopped") {
  const Outcome whole = run(setup_for("DTR", kSmall));
  for (const int64_t polls : {1, 9, 17, 26, 40, 55}) {
    INFO("stopped at poll " << polls);
    MemorySlot memory;
    FixContext::Setup first = setup_for("DTR", kSmall);
    first.checkpoint = memory.slot();
    first.stop = [left = polls]() mutable { return left-- == 0; };
    run(std::move(first));
    FixContext::Setup second = setup_for("DTR", kSmall);
    second.checkpoint = memory.slot();
    const Outcome parts = run(std::move(second));
    REQUIRE(parts.result.network.has_value());
    CHECK(changed_values(*whole.result.network, *parts.result.network).empty());
    CHECK(whole.log.counters == parts.log.counters);
    CHECK(whole.log.scalars == parts.log.scalars);
    CHECK(whole.log.series == parts.log.series);
  }
}

TEST_CASE("RAND:DTR searches as many weights, others") {
  const Outcome localised = run(setup_for("DTR", kSmall));
  const Outcome random = run(setup_for("RAND", kSmall, "DTR"));
  REQUIRE(random.result.network.has_value());
  CHECK(random.log.scalars.at("experts") == localised.log.scalars.at("experts"));
  CHECK(random.result.touched.weights != localised.result.touched.weights);
}

TEST_CASE("DTR without time has no fix") {
  FixContext::Setup setup = setup_for("DTR", kSmall);
  setup.stop = [] { return true; };
  CHECK(run(std::move(setup)).result.failure.code == "timeout");
}

}  // namespace
}  // namespace harness
