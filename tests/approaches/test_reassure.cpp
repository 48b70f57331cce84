#include <cmath>
#include <set>

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

// With the patches of all faults, also where they cost more than they repair.
Outcome run(const Network& network, nlohmann::json parameters = nlohmann::json::object()) {
  if (!parameters.contains("keep_harmful")) parameters["keep_harmful"] = true;
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
      REQUIRE(std::ranges::count(outcome.log.series.at("sharpness"), scalars.at("sharpness")) == 1);
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

// What a fix with this n alone does, counted on images.
struct Tried {
  double n, promised, repaired;
  int64_t broken = 0;
};
Tried tried_alone(const Network& network, nlohmann::json parameters, double n) {
  parameters["n"] = n;
  const Outcome outcome = run(network, parameters);
  const auto& scalars = outcome.log.scalars;
  Tried tried{n, scalars.at("promised"), scalars.at("repaired_of_promised")};
  const Split& repair = tiny_data().split("repair");
  const std::vector<int64_t> after = locate::judge_split(*outcome.result.network, repair, 50).correct;
  for (const int64_t position : locate::judge_split(network, repair, 50).correct)
    tried.broken += std::ranges::count(after, position) == 0;
  REQUIRE(scalars.at("broken") == static_cast<double>(tried.broken));
  REQUIRE(outcome.log.series.at("sharpness") == std::vector<double>{n});
  REQUIRE(outcome.log.series.at("judged") == std::vector<double>{120});
  const std::string note = std::to_string(tried.broken) + " correct inputs of the repair split break";
  REQUIRE((outcome.result.note.find(note) != std::string::npos) == (tried.broken > 0));
  const std::string left =
      std::to_string(static_cast<int64_t>(tried.promised - tried.repaired)) + " promised faults still wrong";
  REQUIRE((outcome.result.note.find(left) != std::string::npos) == (tried.repaired < tried.promised));
  return tried;
}

TEST_CASE("the sharpness is the one that trying every half of n_most would choose", "[reassure]") {
  int64_t clean = 0, broken = 0, short_passes = 0;
  for (const Network* network : {&tiny_network(), &headed_network()}) {
    for (const nlohmann::json& parameters :
         {nlohmann::json::object(), nlohmann::json{{"range", "box"}, {"n_most", 48}, {"n_least", 0.01}},
          nlohmann::json{{"ql", -2}, {"n_most", 1}}, nlohmann::json{{"faults", 6}, {"n_most", 0.3}},
          nlohmann::json{{"faults", 1}}, nlohmann::json{{"faults", 2}, {"n_most", 30}},
          nlohmann::json{{"n_most", 0.02}, {"n_least", 0.5}}}) {
      INFO(parameters.dump());
      const Outcome outcome = run(*network, parameters);
      const auto& series = outcome.log.series;
      const double least = parameters.value("n_least", 1.0 / 1024);
      std::optional<Tried> best;
      size_t count = 0;
      for (double n = parameters.value("n_most", 1024.0); count == 0 || n >= least; n /= 2, ++count) {
        const Tried now = tried_alone(*network, parameters, n);
        if (!best || now.broken < best->broken ||
            (now.broken == best->broken && now.repaired >= best->repaired))
          best = now;
        INFO("n " << n);
        REQUIRE(series.at("sharpness").at(count) == n);
        REQUIRE(series.at("repaired").at(count) == now.repaired);
        const bool whole = series.at("judged").at(count) == 120;
        short_passes += !whole;
        const double seen = series.at("broken").at(count);
        REQUIRE((whole ? seen == static_cast<double>(now.broken) : seen <= static_cast<double>(now.broken)));
      }
      REQUIRE(series.at("sharpness").size() == count);
      REQUIRE(outcome.log.scalars.at("sharpness") == best->n);
      REQUIRE(outcome.log.scalars.at("broken") == static_cast<double>(best->broken));
      REQUIRE(outcome.log.scalars.at("repaired_of_promised") == best->repaired);
      clean += best->broken == 0 && best->repaired == best->promised;
      broken += best->broken > 0;
    }
  }
  CAPTURE(clean, broken, short_passes);
  REQUIRE((clean >= 1 && broken >= 2 && short_passes > 10));
}

// Right answers on the repair split.
int64_t right_answers(const Network& network) {
  return std::ssize(locate::judge_split(network, tiny_data().split("repair"), 50).correct);
}

TEST_CASE("REASSURE uses no patch that costs more than it repairs, unless told to", "[reassure]") {
  int64_t left_out = 0, worse = 0;
  for (const Network* network : {&tiny_network(), &headed_network()}) {
    const int64_t before = right_answers(*network);
    // All faults, and few of them, so that regions differ.
    for (const int64_t faults : {0, 1, 2, 5, 12}) {
      INFO(faults);
      const Outcome all = run(*network, {{"faults", faults}, {"n", 1e6}});
      const Outcome chosen = run(*network, {{"faults", faults}, {"n", 1e6}, {"keep_harmful", false}});
      worse += right_answers(*all.result.network) < before;
      if (!chosen.result.network) {
        REQUIRE(chosen.result.failure.code == "no_fix");
        REQUIRE(right_answers(*all.result.network) <= before);
        ++left_out;
        continue;
      }
      // No region reaches out of itself with so sharp a support.
      REQUIRE(right_answers(*chosen.result.network) >= before);
      REQUIRE(right_answers(*chosen.result.network) >= right_answers(*all.result.network));
      const double harmful = chosen.log.scalars.at("harmful");
      REQUIRE(all.log.scalars.at("harmful") == 0);
      const std::string note =
          std::to_string(static_cast<int64_t>(harmful)) + " faults without a patch: more correct";
      REQUIRE((chosen.result.note.find(note) != std::string::npos) == (harmful > 0));
      left_out += harmful > 0;
    }
  }
  CAPTURE(left_out, worse);
  REQUIRE((left_out > 0 && worse > 0));
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
  const Outcome outcome = run(headed_network(), {{"faults", 5}, {"n", 64}});
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
    return run(headed_network(), {{"faults", 5}, {"n", n}}).log.scalars.at("reached_share");
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
  FixContext::Setup setup = setup_for("RA");
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
  // One n is judged then, on all inputs.
  REQUIRE(part.result.note.find("stopped after " + std::to_string(static_cast<int64_t>(done)) + " faults") ==
          0);
  REQUIRE(part.log.series.at("sharpness") == std::vector<double>{1024});
  REQUIRE(part.log.series.at("judged") == std::vector<double>{120});
  REQUIRE(part.log.scalars.at("repaired_of_given") == repaired(headed_network(), *part.result.network));
}

TEST_CASE("a search of the sharpness that is stopped has a result from the first judged n on", "[reassure]") {
  int64_t polls = 0;
  FixContext::Setup counted = setup_for("RA");
  counted.stop = [&polls] { return ++polls < 0; };
  const Outcome whole = testing::run(std::move(counted), headed_network());
  const std::vector<double>& all = whole.log.series.at("sharpness");
  std::set<size_t> lengths;
  int64_t timeouts = 0;
  for (int64_t at = polls; at-- > 0;) {
    MemorySlot memory;
    FixContext::Setup setup = setup_for("RA");
    setup.checkpoint = memory.slot();
    setup.stop = [left = at]() mutable { return left-- <= 0; };
    const Outcome part = testing::run(std::move(setup), headed_network());
    if (part.result.note.find("stopped after") == 0) break;  // in the linear programs
    REQUIRE(memory.saves > 0);
    if (!part.result.network) {
      REQUIRE(part.result.failure.code == "timeout");
      ++timeouts;
      continue;
    }
    REQUIRE(timeouts == 0);
    REQUIRE(part.result.note.find("stopped in the search of the sharpness") == 0);
    const std::vector<double>& tried = part.log.series.at("sharpness");
    REQUIRE(std::equal(tried.begin(), tried.end(), all.begin()));
    REQUIRE(std::ranges::count(tried, part.log.scalars.at("sharpness")) == 1);
    lengths.insert(tried.size());
  }
  REQUIRE(timeouts >= 2);  // batches of the first pass
  REQUIRE((lengths.count(1) == 1 && lengths.count(all.size() - 1) == 1));
}

}  // namespace
}  // namespace harness
