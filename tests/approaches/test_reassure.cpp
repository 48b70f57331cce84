#include <cmath>

#include "approaches/locate/faults.hpp"
#include "approaches/regions/region_solution.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/approaches/headed.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::branched_network;
using testing::headed_network;
using testing::headless_network;
using testing::MemorySlot;
using testing::Outcome;
using testing::require_same_after_stops;
using testing::setup_for;
using testing::TemporaryFolder;
using testing::tiny_data;
using testing::tiny_network;

Outcome run(const Network& network, const nlohmann::json& parameters = nlohmann::json::object()) {
  return testing::run(setup_for("RA", parameters), network);
}

void check_old_parameters(const Network& before, const FixResult& result) {
  REQUIRE(result.network.has_value());
  REQUIRE((result.touched.weights.empty() && !result.touched.everything));
  for (const Parameter& parameter : before.parameters()) {
    const ParameterId id = result.network->find_parameter(parameter.name);
    REQUIRE(id >= 0);
    REQUIRE(result.network->parameters()[id].value.equal(parameter.value));
  }
}

double faults_of(const Network& network) {
  return static_cast<double>(locate::judge_split(network, tiny_data().split("repair"), 50).wrong.size());
}

// How many faults of `before` `after` gets right.
double repaired(const Network& before, const Network& after) {
  const std::vector<int64_t> wrong = locate::judge_split(before, tiny_data().split("repair"), 50).wrong;
  const std::vector<int64_t> correct = locate::judge_split(after, tiny_data().split("repair"), 50).correct;
  return static_cast<double>(
      std::ranges::count_if(wrong, [&](int64_t n) { return std::ranges::count(correct, n) > 0; }));
}

// Faults that lie in no later fault's region with another label, by the rows of the regions.
double promised(const Network& network) {
  const Split& split = tiny_data().split("repair");
  const regions::DenseHead head = std::get<regions::DenseHead>(regions::dense_head(network));
  const std::vector<int64_t> wrong = locate::judge_split(network, split, 50).wrong;
  const at::Tensor x = split.inputs(at::tensor(wrong, at::kLong));
  const at::Tensor features = network.activations(x, {head.cut})[0].to(at::kDouble);
  const regions::LinearRegions regions = regions::linear_regions(head, features);
  double count = 0;
  for (size_t t = 0; t < wrong.size(); ++t) {
    bool lost = false;
    for (size_t s = t + 1; s < wrong.size(); ++s) {
      const auto other = static_cast<int64_t>(s);
      const at::Tensor at = at::mv(regions.rows[other], features[static_cast<int64_t>(t)]);
      const bool inside = at.le(regions.bounds[other]).all().item<bool>();
      const at::Tensor& labels = split.labels();
      lost = lost || (inside && labels[wrong[t]].item<int64_t>() != labels[wrong[s]].item<int64_t>());
    }
    count += !lost;
  }
  return count;
}

TEST_CASE("REASSURE repairs all faults it promises, in float32 and after saving", "[reassure]") {
  for (const Network* network : {&tiny_network(), &headed_network()}) {
    const double faults = faults_of(*network);
    for (const nlohmann::json& parameters : {nlohmann::json::object(), nlohmann::json{{"box", "per_feature"}},
                                             nlohmann::json{{"range", "box"}}, nlohmann::json{{"ql", -2}}}) {
      INFO(parameters.dump());
      const Outcome outcome = run(*network, parameters);
      check_old_parameters(*network, outcome.result);
      const auto& scalars = outcome.log.scalars;
      REQUIRE(scalars.at("faults") == faults);
      REQUIRE(scalars.at("patched") == faults);
      REQUIRE(scalars.at("promised") == promised(*network));
      REQUIRE(scalars.at("repaired_of_promised") == scalars.at("promised"));
      REQUIRE(repaired(*network, *outcome.result.network) == scalars.at("repaired_of_given"));
      REQUIRE(scalars.at("repaired_of_given") >= scalars.at("promised"));
      REQUIRE(scalars.at("sharpness") == outcome.log.series.at("sharpness").back());
      REQUIRE(scalars.at("inference_cost_ratio") > 1);
      REQUIRE(scalars.at("inside_share") >= scalars.at("promised") / 120);
      REQUIRE(scalars.at("reached_share") >= scalars.at("inside_share"));
      const bool programs = parameters.value("range", "lp") == "lp";
      REQUIRE(outcome.log.counters.at("linear_programs") ==
              (programs ? static_cast<int64_t>(3 * faults) + outcome.log.counters.at("lower_programs") : 0));
      if (parameters.contains("ql")) REQUIRE(scalars.at("affine_patches") == 1);
      REQUIRE(outcome.log.phases.size() == 3);
      const TemporaryFolder folder;
      outcome.result.network->save(folder / "fixed.pt");
      const at::Tensor x = tiny_data().split("repair").inputs(0, 120);
      const Network again = Network::load(folder / "fixed.pt", x.slice(0, 0, 3));
      REQUIRE(again.importable());
      REQUIRE(again.classify(x).equal(outcome.result.network->classify(x)));
    }
  }
  REQUIRE(promised(tiny_network()) < faults_of(tiny_network()));
}

TEST_CASE("the search for the sharpness goes down, then up", "[reassure]") {
  const auto tried = [](const nlohmann::json& parameters) {
    return run(headed_network(), parameters).log.series.at("sharpness");
  };
  REQUIRE(tried({{"n", 0.01}, {"n_least", 0.004}, {"n_most", 0.05}}) ==
          std::vector<double>{0.01, 0.005, 0.02, 0.04});
  REQUIRE(tried({{"n", 4096}}) == std::vector<double>{4096});
}

TEST_CASE("REASSURE repairs whole regions", "[reassure]") {
  const Outcome outcome = run(headed_network());
  const Split& split = tiny_data().split("repair");
  const regions::DenseHead head = std::get<regions::DenseHead>(regions::dense_head(headed_network()));
  const std::vector<int64_t> wrong = locate::judge_split(headed_network(), split, 50).wrong;
  // Features near a fault's, with the same signs: the last fault has no later patch over it.
  const int64_t fault = wrong.back(), label = split.labels()[fault].item<int64_t>();
  const Cut cut = headed_network().cut_before(head.cut + 1),
            patched = outcome.result.network->cut_before(head.cut + 1);
  const at::Tensor features = headed_network().prefix(cut, split.inputs(fault, fault + 1))[0];
  const at::Tensor box = headed_network().prefix(cut, split.inputs(0, 120))[0];
  at::manual_seed(3);
  const at::Tensor near =
      (features + 0.05 * at::randn({4000, head.features()})).clamp(0, box.max().item<double>());
  const auto signs = [&](const at::Tensor& x) {
    return at::cat(regions::activation_patterns(head, x.to(at::kDouble)), 1);
  };
  const at::Tensor inside = signs(near).eq(signs(features)).all(1).nonzero().flatten();
  REQUIRE(inside.numel() > 50);
  const at::Tensor logits = outcome.result.network->suffix(patched, {near.index_select(0, inside)});
  REQUIRE(logits.argmax(1).eq(label).all().item<bool>());
}

TEST_CASE("REASSURE leaves inputs outside all supports as they are", "[reassure]") {
  const Outcome outcome = run(headed_network(), {{"faults", 5}, {"n", 64}, {"n_least", 64}, {"n_most", 64}});
  REQUIRE(outcome.log.scalars.at("faults") == 5);
  const Split& split = tiny_data().split("repair");
  const at::Tensor x = split.inputs(0, 120);
  const at::Tensor changed = headed_network().logits(x).ne(outcome.result.network->logits(x)).any(1);
  REQUIRE(changed.to(at::kDouble).mean().item<double>() == Approx(outcome.log.scalars.at("reached_share")));
  const regions::DenseHead head = std::get<regions::DenseHead>(regions::dense_head(headed_network()));
  const at::Tensor features = headed_network().activations(x, {head.cut})[0].to(at::kDouble);
  std::vector<int64_t> wrong = locate::judge_split(headed_network(), split, 50).wrong;
  wrong.resize(5);
  const regions::LinearRegions regions =
      regions::linear_regions(head, features.index_select(0, at::tensor(wrong, at::kLong)));
  at::Tensor near = at::zeros({120}, at::kBool);
  for (int64_t t = 0; t < 5; ++t) {
    const at::Tensor broken = at::relu(at::matmul(features, regions.rows[t].t()) - regions.bounds[t]);
    near = near.logical_or((64 * broken).clamp_max(1).sum(1).lt(1));
  }
  REQUIRE(changed.logical_and(near.logical_not()).sum().item<int64_t>() == 0);
  REQUIRE(near.sum().item<int64_t>() < 110);
  at::Tensor inside = at::zeros({120}, at::kBool);
  for (int64_t t = 0; t < 5; ++t)
    inside =
        inside.logical_or(at::matmul(features, regions.rows[t].t()).le(regions.bounds[t] + 1e-12).all(1));
  REQUIRE(inside.to(at::kDouble).mean().item<double>() == Approx(outcome.log.scalars.at("inside_share")));
  for (const int64_t fault : wrong) REQUIRE(changed[fault].item<bool>());
}

TEST_CASE("a blunt support reaches further", "[reassure]") {
  const auto reached = [](double n) {
    return run(headed_network(), {{"faults", 5}, {"n", n}, {"n_least", n}, {"n_most", n}})
        .log.scalars.at("reached_share");
  };
  REQUIRE(reached(0.05) > reached(0.5));
  REQUIRE(reached(0.5) >= reached(64));
}

// Three repair images that are one and the same, with three labels.
TEST_CASE("of contradicting faults the last one is promised", "[reassure]") {
  const TemporaryFolder folder;
  const at::Tensor x = tiny_data().split("repair").inputs(0, 120);
  const int64_t said = tiny_network().classify(x)[3].item<int64_t>();
  std::string program = R"(
import h5py, numpy as np
with h5py.File('@') as old, h5py.File('#', 'w') as f:
    f.attrs.update(old.attrs)
    for name in ('repair', 'test'):
        image = old['repair/images'][3:4]
        f[name + '/images'] = np.repeat(image, 4, 0)
        f[name + '/labels'] = (SAID + np.arange(4)) % 4
)";
  const auto put = [&](const std::string& mark, const std::string& text) {
    program.replace(program.find(mark), mark.size(), text);
  };
  put("@", tiny_data().file().string());
  put("#", (folder / "same.h5").string());
  put("SAID", std::to_string(said));
  testing::run_python(program);
  const Dataset data = Dataset::open(folder / "same.h5");
  FixContext::Setup setup = setup_for("RA", {{"n_least", 0.25}});
  setup.data = &data;
  const Outcome outcome = testing::run(std::move(setup));
  REQUIRE(outcome.log.scalars.at("faults") == 3);
  REQUIRE(outcome.log.scalars.at("promised") == 1);
  REQUIRE(outcome.log.scalars.at("repaired_of_promised") == 1);
  REQUIRE(outcome.result.network->classify(x)[3].item<int64_t>() == (said + 3) % 4);
}

TEST_CASE("REASSURE's statuses", "[reassure]") {
  FixContext::Setup stopped = setup_for("RA");
  stopped.stop = [] { return true; };
  REQUIRE(testing::run(std::move(stopped), tiny_network()).result.failure.code == "timeout");
  const FixContext::Setup setup = setup_for("RA");
  const auto adapt = [&](const Network& network, std::optional<int64_t> faults) {
    return find_approach("RA")->adapt({.network = &network,
                                       .data = &tiny_data(),
                                       .hyperparameters = setup.hyperparameters,
                                       .repair_faults = faults});
  };
  REQUIRE_FALSE(adapt(tiny_network(), 3).has_value());
  REQUIRE_FALSE(adapt(headed_network(), std::nullopt).has_value());
  REQUIRE(adapt(tiny_network(), 0)->code == "no_faults");
  REQUIRE(adapt(headless_network("pooled"), 3)->code == "structure");
  REQUIRE(adapt(branched_network(), 3)->code == "operator");
  // A patched network ends in a sum.
  REQUIRE(adapt(*run(tiny_network()).result.network, 3)->code == "structure");
}

TEST_CASE("an interrupted REASSURE goes on bit for bit", "[reassure]") {
  require_same_after_stops([] { return setup_for("RA"); }, headed_network());
  // Every fault and every program asks, after the pass of 120 inputs by 50.
  FixContext::Setup stopped = setup_for("RA");
  stopped.stop = [left = 40]() mutable { return left-- <= 0; };
  const Outcome part = testing::run(std::move(stopped), headed_network());
  const double done = part.log.scalars.at("patched");
  REQUIRE((done > 0 && done <= 37));
  REQUIRE(part.result.note == "stopped after " + std::to_string(static_cast<int64_t>(done)) + " faults");
  REQUIRE(part.log.scalars.at("repaired_of_given") == repaired(headed_network(), *part.result.network));
}

}  // namespace
}  // namespace harness
