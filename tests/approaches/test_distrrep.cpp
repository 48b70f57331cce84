#include <algorithm>
#include <set>

#include "approaches/locate/error_kinds.hpp"
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

const nlohmann::json kSmallDistrRep = {
    {"types", 3}, {"least_negatives", 2}, {"particles", 12}, {"iterations", 15}};
// The same with a general kind, and one that no input is of (label 2 is never taken for 1).
nlohmann::json risky() {
  nlohmann::json parameters = kSmallDistrRep;
  parameters["risk"] = {{"0", 3}, {"2->1", 2}};
  return parameters;
}

std::optional<Refusal> refusal_for(const std::vector<int64_t>& sizes,
                                   const nlohmann::json& given = nlohmann::json::object()) {
  const Approach& approach = *find_approach("DTR");
  const Hyperparameters parameters = hyperparameters_of(approach.info, Hyperparameters(given));
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

TEST_CASE("DTR repairs what kinds there are, or as many as the setting says") {
  for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{30, 12}, {1}, {3, 3, 2}})
    CHECK_FALSE(refusal_for(sizes).has_value());
  const nlohmann::json strict = {{"types_required", 8}, {"least_negatives", 6}};
  CHECK_FALSE(refusal_for({6, 6, 6, 6, 6, 6, 6, 6}, strict).has_value());
  const auto few = refusal_for({6, 50, 6, 6, 6, 6, 6, 5}, strict);
  REQUIRE(few.has_value());
  CHECK(few->code == "too_few_error_types");
  CHECK(
      few->text ==
      "7 of the 8 pairs of label and prediction that occur have 6 misclassified inputs or more in the repair "
      "split (the most frequent have 50, 6, 6, 6, 6, 6, 6, 5), and the setting types_required is 8");
  CHECK(refusal_for({30, 12}, strict)->code == "too_few_error_types");  // two classes
  CHECK(refusal_for({5, 5, 5, 5, 5, 5, 5, 5, 5}, strict)->code == "too_few_error_types");
  // Labels of the network's four classes alone.
  CHECK_FALSE(refusal_for({6}, {{"risk", {{"3->0", 2}, {"1", 3}}}}).has_value());
  const auto unknown = refusal_for({6}, {{"risk", {{"3->4", 2}}}});
  REQUIRE(unknown.has_value());
  CHECK(unknown->code == "unknown_label");
  CHECK(unknown->text == "risk names the label 4, and the classes are 0 to 3");
}

TEST_CASE("kinds of error are written as a label, or as two different ones") {
  for (const std::string key : {"0", "7", "12", "3->5", "10->0"}) CHECK(search::RiskLevels::is_key(key));
  for (const std::string key :
       {"", "-1", "07", "3->3", "3-5", "3 -> 5", "->5", "3->", "3->5->7", "cat", "1.0"})
    CHECK_FALSE(search::RiskLevels::is_key(key));
  const search::RiskLevels levels({{"7", 3}, {"1->2", 0.5}});
  CHECK(levels.of_pair(1, 2) == 0.5);
  CHECK(levels.of_pair(2, 1) == 1);
  CHECK(levels.of_pair(7, 1) == 1);  // another kind than "7"
  CHECK(levels.of_pair(7, search::kAnyClass) == 3);
  CHECK(levels.of_classes(9) == std::vector<double>{1, 1, 1, 1, 1, 1, 1, 3, 1});
  CHECK(levels.largest_label() == 7);
  CHECK(search::RiskLevels().largest_label() == -1);
}

// Labels 0, 1, 2; of label 0 six inputs are taken for 1 and two for 2, of label 1 three for 0, of label 2 one
// for 0.
locate::Judgement made_up_judgement() {
  const std::vector<int64_t> labels = {0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2},
                             predictions = {1, 1, 1, 1, 1, 1, 2, 2, 0, 0, 0, 0, 0};
  return locate::judgement_of(at::tensor(labels), at::tensor(predictions));
}

std::string kinds_text(const std::vector<locate::KindOfFaults>& kinds) {
  std::string text;
  for (const locate::KindOfFaults& one : kinds)
    text += search::to_text(one.kind) + ":" + std::to_string(one.negatives.size()) + " ";
  return text;
}

TEST_CASE("the most risky and most frequent kinds of error get an expert") {
  using Table = std::map<std::string, double>;
  const auto chosen = [](const Table& table, const locate::KindChoice& choice) {
    return locate::choose_kinds(made_up_judgement(), search::RiskLevels(table), choice);
  };
  const auto text = [&](const Table& table, int64_t most, int64_t least) {
    const locate::ChosenKinds found = chosen(table, {.most = most, .least_negatives = least});
    return kinds_text(found.kinds) + "| " + kinds_text(found.left_out);
  };
  CHECK(text({}, 8, 1) == "0->1:6 1->0:3 0->2:2 2->0:1 | ");
  CHECK(text({}, 2, 1) == "0->1:6 1->0:3 | ");
  CHECK(text({}, 8, 3) == "0->1:6 1->0:3 | ");
  CHECK(text({}, 8, 7) == "0->1:6 | ");  // no kind has so many: the first alone
  CHECK(text({{"2->0", 2}}, 2, 1) == "2->0:1 0->1:6 | ");
  CHECK(text({{"2->0", 2}}, 8, 2) == "0->1:6 1->0:3 0->2:2 | 2->0:1 ");  // said, as it was asked for
  CHECK(text({{"0->1", 0.5}}, 2, 1) == "1->0:3 0->2:2 | 0->1:6 ");
  CHECK(text({{"0->1", 0}}, 8, 1) == "1->0:3 0->2:2 2->0:1 | ");
  CHECK(text({{"0", 3}, {"1->2", 2}}, 3, 1) == "0:8 0->1:6 1->0:3 | 1->2:0 ");
  CHECK(text({{"0", 0}, {"1", 0}}, 1, 1) == "0->1:6 | ");
  CHECK(chosen({{"0", 3}}, {}).kinds[0].negatives == std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(chosen({{"0->1", 0}, {"0->2", 0}, {"1->0", 0}, {"2->0", 0}}, {}).kinds.empty());
}

// The score of approaches/docs/DTR.md, Formulas, on numbers that can be counted by hand: two of three inputs
// of label 0 are right, the third is taken for 1; one of two of label 1 is right, the other is taken for 2.
TEST_CASE("risky kinds and labels weigh more in the score") {
  const at::Tensor labels = at::tensor(std::vector<int64_t>{0, 0, 0, 1, 1});
  const std::vector<int32_t> predicted = {0, 0, 1, 1, 2};
  const search::ErrorKind one{.label = 0, .predicted = 1}, any{.label = 1, .level = 3},
      absent{.label = 1, .predicted = 0, .level = 4};
  const auto score = [&](const std::vector<double>& levels, const std::vector<search::ErrorKind>& kinds) {
    return search::recall_less_risk(labels, predicted, levels, kinds, 0.5);
  };
  const double recall = 2.0 / 3, other = 0.5;
  CHECK(score({1, 1, 1}, {one}) == Approx((recall + other) / 2 - 0.5 / 3));
  CHECK(score({1, 1, 1}, {one, any}) == Approx((recall + other) / 2 - 0.5 * (1 * 1.0 / 3 + 3 * 0.5) / 4));
  CHECK(score({1, 3, 9}, {one, absent}) == Approx((recall + 3 * other) / 4 - 0.5 * (1.0 / 3) / 5));
  CHECK(score({0, 0, 0}, {}) == 0);
}

TEST_CASE("DTR changes weights of the last layer alone, and those it says") {
  const Outcome outcome = run(setup_for("DTR", kSmallDistrRep));
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
  const Outcome outcome = run(setup_for("DTR", kSmallDistrRep));
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

TEST_CASE("DTR repairs the kinds that risk names, and says which it could not") {
  const Outcome outcome = run(setup_for("DTR", risky()));
  REQUIRE(outcome.result.network.has_value());
  const locate::Judgement before = locate::judge_split(tiny_network(), tiny_data().split("repair"), 50);
  std::map<std::pair<int64_t, int64_t>, int64_t> faults;
  for (const locate::ErrorType& type : locate::error_types(before)) {
    faults[{type.label, type.predicted}] = std::ssize(type.negatives);
    faults[{type.label, search::kAnyClass}] += std::ssize(type.negatives);
  }
  const auto& series = outcome.log.series;
  REQUIRE(series.at("expert_label").size() == 3);
  CHECK(series.at("expert_label")[0] == 0);
  CHECK(series.at("expert_predicted")[0] == -1);
  CHECK(series.at("expert_level") == std::vector<double>{3, 1, 1});
  for (size_t k = 0; k < 3; ++k) {
    const auto label = static_cast<int64_t>(series.at("expert_label")[k]);
    const auto predicted = static_cast<int64_t>(series.at("expert_predicted")[k]);
    CHECK(series.at("expert_faults")[k] == static_cast<double>(faults.at({label, predicted})));
  }
  CHECK(outcome.result.note.find("no expert for 2->1 (" + std::to_string(faults[{2, 1}]) + " fault") !=
        std::string::npos);
  CHECK(run(setup_for("DTR", kSmallDistrRep)).result.note.find("no expert") == std::string::npos);
}

TEST_CASE("DTR goes on bit for bit wherever it is stopped, and localises nothing again") {
  for (const nlohmann::json& parameters : {kSmallDistrRep, risky()}) {
    const Outcome whole = run(setup_for("DTR", parameters));
    int resumed = 0;
    for (const int64_t polls : {1, 9, 17, 26, 40, 55}) {
      INFO("stopped at poll " << polls);
      MemorySlot memory;
      FixContext::Setup first = setup_for("DTR", parameters);
      first.checkpoint = memory.slot();
      first.stop = [left = polls]() mutable { return left-- == 0; };
      run(std::move(first));
      resumed += memory.saves > 0;
      FixContext::Setup second = setup_for("DTR", parameters);
      second.checkpoint = memory.slot();
      const Outcome parts = run(std::move(second));
      REQUIRE(parts.result.network.has_value());
      CHECK(changed_values(*whole.result.network, *parts.result.network).empty());
      CHECK(whole.log.counters == parts.log.counters);
      CHECK(whole.log.scalars == parts.log.scalars);
      CHECK(whole.log.series == parts.log.series);
      CHECK(whole.result.note == parts.result.note);
      CHECK(parts.log.phases.contains("localise") == (memory.saves == 0));
    }
    CHECK(resumed > 3);
  }
}

TEST_CASE("RAND:DTR searches as many weights, others") {
  const Outcome localised = run(setup_for("DTR", kSmallDistrRep));
  const Outcome random = run(setup_for("RAND", kSmallDistrRep, "DTR"));
  REQUIRE(random.result.network.has_value());
  CHECK(random.log.scalars.at("experts") == localised.log.scalars.at("experts"));
  CHECK(random.result.touched.weights != localised.result.touched.weights);
}

TEST_CASE("DTR without time has no fix") {
  FixContext::Setup setup = setup_for("DTR", kSmallDistrRep);
  setup.stop = [] { return true; };
  CHECK(run(std::move(setup)).result.failure.code == "timeout");
}

}  // namespace
}  // namespace harness
