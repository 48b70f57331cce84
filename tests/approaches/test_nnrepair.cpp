#include <cmath>

#include "approaches/last_layer.hpp"
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

at::Tensor repair_inputs() {
  return tiny_data().split("repair").inputs(0, 120);
}

// The changes of all experts (classes, features), from the node that the joined network has.
at::Tensor experts_of(const Network& joined) {
  return joined.parameters()[joined.find_parameter("nnrepair.experts")].value.to(at::kDouble);
}

// The vote CONF, literally (approaches/docs/NNR.md, Formulas).
int64_t vote(const at::Tensor& z, const at::Tensor& changes, const at::Tensor& phi) {
  const at::Tensor experts = z + changes.matmul(phi);
  int64_t best = -1;
  for (int64_t k = 0; k < z.numel(); ++k) {
    if (changes[k].eq(0).all().item<bool>()) continue;
    bool claims = true;
    for (int64_t j = 0; j < z.numel(); ++j)
      claims = claims && (j == k || experts[k].item<double>() > z[j].item<double>());
    if (claims && (best < 0 || experts[k].item<double>() > experts[best].item<double>())) best = k;
  }
  return best >= 0 ? best : z.argmax().item<int64_t>();
}

TEST_CASE("NNrepair's experts do what their programs promise", "[nnr]") {
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    const Outcome outcome =
        run(setup_for("NNR", {{"selection", "none"}, {"hard_per_class", 1}, {"delta_bound", 3}}), *network);
    const FixLog& log = outcome.log;
    REQUIRE(outcome.result.network.has_value());
    REQUIRE(log.scalars.at("experts") >= 2);
    REQUIRE(log.scalars.at("selected") == log.scalars.at("experts"));
    REQUIRE(log.scalars.at("promised") > 0);
    REQUIRE(log.scalars.at("repaired") == log.scalars.at("promised"));
    REQUIRE(log.scalars.at("kept") == log.scalars.at("promised_kept"));
    const at::Tensor changes = experts_of(*outcome.result.network);
    REQUIRE(changes.abs().max().item<double>() < 3);
    REQUIRE(changes.ne(0).sum(1).max().item<int64_t>() <= 5);
  }
}

TEST_CASE("the joined network is the vote of the experts", "[nnr]") {
  const Outcome outcome = run(setup_for("NNR", {{"selection", "none"}, {"hard_per_class", 0}}));
  const Network& joined = *outcome.result.network;
  const HeadView view =
      view_head(tiny_network(), *last_dense_layer(tiny_network()), tiny_data().split("repair"), 50);
  const at::Tensor said = joined.classify(repair_inputs()), changes = experts_of(joined);
  int64_t different = 0;
  for (int64_t n = 0; n < 120; ++n) {
    REQUIRE(said[n].item<int64_t>() == vote(view.logits[n], changes, view.phi[n].to(at::kDouble)));
    different += said[n].item<int64_t>() != view.judgement.predictions[n].item<int64_t>();
  }
  REQUIRE(different > 0);
  // Nothing of the original has changed; three nodes more.
  REQUIRE(outcome.result.touched.weights.empty());
  REQUIRE(joined.nodes().size() == tiny_network().nodes().size() + 3);
  for (size_t id = 0; id < tiny_network().parameters().size(); ++id)
    REQUIRE(joined.parameters()[id].value.equal(tiny_network().parameters()[id].value));
  testing::TemporaryFolder folder;
  joined.save(folder / "joined.pt");
  const Network again = Network::load(folder / "joined.pt", repair_inputs().narrow(0, 0, 3));
  REQUIRE(again.classify(repair_inputs()).equal(said));
}

TEST_CASE("the mean of the experts changes the last layer alone", "[nnr]") {
  const nlohmann::json parameters = {{"selection", "none"}, {"hard_per_class", 0}, {"combine", "average"}};
  const Outcome outcome = run(setup_for("NNR", parameters));
  nlohmann::json joined = parameters;
  joined["combine"] = "conf";
  const at::Tensor changes = experts_of(*run(setup_for("NNR", joined)).result.network);
  const Network& fixed = *outcome.result.network;
  const ParameterId kernel = last_dense_layer(tiny_network())->weight;
  const at::Tensor expected = tiny_network().parameters()[kernel].value.to(at::kDouble) +
                              changes / outcome.log.scalars.at("selected");
  REQUIRE(at::allclose(fixed.parameters()[kernel].value.to(at::kDouble), expected, 1e-6, 1e-7));
  auto left = outcome.result.touched.weights;
  for (const auto& [name, index] : changed_values(tiny_network(), fixed))
    REQUIRE(std::erase(left[name], index) == 1);
  REQUIRE(left.size() == 1);
  REQUIRE(left.at("fc2.weight").empty());
}

TEST_CASE("hard inputs keep their class under every expert", "[nnr]") {
  // With so many, all correct inputs are hard ones: no expert takes one of another class, none loses its own.
  const Outcome outcome = run(setup_for("NNR", {{"selection", "none"}, {"hard_per_class", 1000}}));
  const locate::Judgement before = locate::judge_split(tiny_network(), tiny_data().split("repair"), 50);
  const locate::Judgement after =
      locate::judge_split(*outcome.result.network, tiny_data().split("repair"), 50);
  for (const int64_t n : before.correct) REQUIRE(std::ranges::binary_search(after.correct, n));
  const Outcome soft = run(setup_for("NNR", {{"selection", "none"}, {"hard_per_class", 0}}));
  const std::vector<double>&many = outcome.log.series.at("violated_rows"),
        &none = soft.log.series.at("violated_rows");
  REQUIRE(many.size() == none.size());
  for (size_t k = 0; k < many.size(); ++k) REQUIRE(many[k] >= none[k]);
}

TEST_CASE("experts without a better F1 do not take part", "[nnr]") {
  const Outcome all = run(setup_for("NNR", {{"selection", "none"}, {"hard_per_class", 0}})),
                selected = run(setup_for("NNR", {{"hard_per_class", 0}}));
  REQUIRE(selected.log.scalars.at("selected_on_train") == 96);
  REQUIRE(selected.log.scalars.at("experts") == all.log.scalars.at("experts"));
  REQUIRE(selected.log.scalars.at("selected") < all.log.scalars.at("selected"));
  const at::Tensor changes = experts_of(*all.result.network);
  const HeadView view =
      view_head(tiny_network(), *last_dense_layer(tiny_network()), tiny_data().split("train"), 50);
  double better = 0;
  for (int64_t k = 0; k < 4; ++k) {
    const auto f1 = [&](const auto& said) {
      double hits = 0, total = 0;
      for (int64_t n = 0; n < 96; ++n) {
        const bool own = view.judgement.labels[n].template item<int64_t>() == k, claimed = said(n);
        hits += own && claimed;
        total += own + claimed;
      }
      return 2 * hits / total;
    };
    const double expert = f1([&](int64_t n) {
      at::Tensor z = view.logits[n].clone();
      z[k] += changes[k].dot(view.phi[n].to(at::kDouble));
      return z.argmax().item<int64_t>() == k;
    });
    better += expert > f1([&](int64_t n) { return view.judgement.predictions[n].item<int64_t>() == k; });
  }
  REQUIRE(selected.log.scalars.at("selected") == better);
  if (better == 0) {
    REQUIRE(selected.result.note.find("returned the original") == 0);
    REQUIRE(changed_values(tiny_network(), *selected.result.network).empty());
  }
}

TEST_CASE("an interrupted NNR goes on bit for bit", "[nnr]") {
  const nlohmann::json parameters = {{"hard_per_class", 1}};
  require_same_after_stops([&] { return setup_for("NNR", parameters); });
  require_same_after_stops([&] { return setup_for("RAND", parameters, "NNR"); });
}

TEST_CASE("a class whose programs are stopped is dropped, and the note says so", "[nnr]") {
  const nlohmann::json parameters = {{"hard_per_class", 1}, {"selection", "none"}};
  const Outcome whole = run(setup_for("NNR", parameters));
  const locate::Judgement judgement = locate::judge_split(tiny_network(), tiny_data().split("repair"), 50);
  size_t dropped = 0, noted = 0;
  for (int64_t at = 0; at < 4; ++at) {
    const bool any = std::ranges::any_of(
        judgement.wrong, [&](int64_t n) { return judgement.labels[n].item<int64_t>() == at; });
    if (!any) continue;  // a class without a program
    INFO("stopped in the programs of class " << at);
    MemorySlot memory;
    FixContext::Setup first = setup_for("NNR", parameters);
    first.checkpoint = memory.slot();
    int64_t classes = 0, polls = 0;  // polls: since the class began; the first is before its programs
    bool fired = false;
    first.progress = [&](double, const std::string& what) {
      if (what == "solve") ++classes, polls = 0;
    };
    first.stop = [&] { return fired = fired || (classes == at + 1 && ++polls == 2); };
    const Outcome part = run(std::move(first));
    REQUIRE(classes == at + 1);
    const auto& rows = part.log.series;
    REQUIRE((rows.count("violated_rows") == 0 ? 0 : rows.at("violated_rows").size()) == dropped);
    ++dropped;
    REQUIRE(memory.saves == 1);
    if (part.result.network) {
      const std::string class_text = std::to_string(at);
      REQUIRE(part.result.note.ends_with("stopped after " + class_text +
                                         " classes and in the programs of class " + class_text +
                                         ", which is dropped"));
      ++noted;
    } else {
      REQUIRE(part.result.failure.code == "timeout");
    }
    FixContext::Setup second = setup_for("NNR", parameters);
    second.checkpoint = memory.slot();
    const Outcome rest = run(std::move(second));
    REQUIRE(experts_of(*whole.result.network).equal(experts_of(*rest.result.network)));
    REQUIRE(rest.log.counters == whole.log.counters);
    REQUIRE(rest.log.scalars == whole.log.scalars);
    REQUIRE(rest.log.series == whole.log.series);
    REQUIRE(rest.result.note == whole.result.note);
  }
  REQUIRE(dropped >= 3);
  REQUIRE(noted >= 2);
}

TEST_CASE("RAND:NNR changes as many other weights; NNR is a function of its seed", "[nnr]") {
  const nlohmann::json parameters = {{"selection", "none"}, {"hard_per_class", 0}};
  const Outcome own = run(setup_for("NNR", parameters)), random = run(setup_for("RAND", parameters, "NNR"));
  REQUIRE_FALSE(experts_of(*own.result.network).ne(0).equal(experts_of(*random.result.network).ne(0)));
  FixContext::Setup other = setup_for("NNR", parameters);
  other.seed = 12;
  REQUIRE(run(std::move(other)).result.network->digest() != own.result.network->digest());
  REQUIRE(run(setup_for("NNR", parameters)).result.network->digest() == own.result.network->digest());
}

TEST_CASE("NNR's statuses", "[nnr]") {
  const auto adapt = [&](const nlohmann::json& parameters, int64_t faults) {
    const FixContext::Setup setup = setup_for("NNR", parameters);
    const auto refusal = find_approach("NNR")->adapt({.network = &tiny_network(),
                                                      .data = &tiny_data(),
                                                      .hyperparameters = setup.hyperparameters,
                                                      .repair_faults = faults});
    return refusal ? refusal->code : std::string();
  };
  REQUIRE(adapt(nlohmann::json::object(), 1).empty());
  REQUIRE(adapt(nlohmann::json::object(), 0) == "no_faults");
  REQUIRE(adapt({{"max_classes", 3}}, 1) == "too_many_classes");
  // No time at all: no expert.
  const Outcome none = run(setup_for("NNR", {{"solver_seconds", 0}}));
  REQUIRE(none.result.failure.code == "no_fix");
  REQUIRE(none.log.counters.at("classes_time_limit") > 0);
  REQUIRE(none.log.counters.count("classes_infeasible") == 0);
}

}  // namespace
}  // namespace harness
