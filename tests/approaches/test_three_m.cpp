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
using testing::run;
using testing::setup_for;
using testing::tiny_data;
using testing::tiny_network;

const at::Tensor& kernel(const Network& network, const std::string& name) {
  return network.parameters()[network.find_parameter(name)].value;
}

double largest_change(const Network& fixed, const std::string& name) {
  return (kernel(fixed, name) - kernel(tiny_network(), name)).abs().max().item<double>();
}

// Touched weights are those that changed, and no others.
void check_touched(const Network& network, const FixResult& result) {
  auto left = result.touched.weights;
  for (const auto& [name, index] : changed_values(network, *result.network)) {
    std::vector<int64_t>& indices = left[name];
    REQUIRE(std::erase(indices, index) == 1);
  }
  for (const auto& [name, indices] : left) REQUIRE(indices.empty());
}

TEST_CASE("what the last dense layer reads and gives", "[3m]") {
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    const TargetLayer head = *last_dense_layer(*network);
    const HeadView view = view_head(*network, head, tiny_data().split("repair"), 17);
    const locate::Judgement judgement = locate::judge_split(*network, tiny_data().split("repair"), 50);
    REQUIRE(view.judgement.wrong == judgement.wrong);
    REQUIRE(view.judgement.correct == judgement.correct);
    REQUIRE(view.phi.sizes() == at::IntArrayRef({120, network == &tiny_network() ? 10 : 6}));
    const at::Tensor logits = network->logits(tiny_data().split("repair").inputs(0, 120));
    REQUIRE(at::allclose(view.logits.to(at::kFloat), logits, 1e-5, 1e-5));
    std::vector<int64_t> faults = faults_by_gap(view);
    const auto gap = [&](int64_t n) {
      const int64_t label = view.judgement.labels[n].item<int64_t>();
      return (view.logits[n].max() - view.logits[n][label]).item<double>();
    };
    for (size_t k = 1; k < faults.size(); ++k) REQUIRE(gap(faults[k - 1]) <= gap(faults[k]));
    std::ranges::sort(faults);
    REQUIRE(faults == judgement.wrong);
    const HeadCheck check =
        check_inputs(*network, tiny_data().split("repair").inputs(0, 120), view.judgement.labels, 17);
    REQUIRE(check.right == std::ssize(judgement.correct));
    REQUIRE(check.min_margin == Approx(-gap(faults_by_gap(view).back())));
  }
}

TEST_CASE("3M repairs what it promises, by the least change of the last layer", "[3m]") {
  const HeadView view =
      view_head(tiny_network(), *last_dense_layer(tiny_network()), tiny_data().split("repair"), 50);
  const std::vector<int64_t> nearest = faults_by_gap(view);
  for (const std::string norm : {"linf", "l1"}) {
    double before = 0;
    for (const int64_t points : {1, 3, 6}) {
      INFO(norm << " " << points);
      const Outcome outcome =
          run(setup_for("3M", {{"norm", norm}, {"n_points", points}, {"search", "none"}}));
      REQUIRE(outcome.result.network.has_value());
      const Network& fixed = *outcome.result.network;
      REQUIRE(outcome.result.note == std::to_string(points) + " of 20 faults were requested; single layer");
      REQUIRE(outcome.log.series.empty());
      REQUIRE(outcome.log.scalars.at("promised") == static_cast<double>(points));
      REQUIRE(outcome.log.scalars.at("repaired") == static_cast<double>(points));
      REQUIRE(outcome.log.scalars.at("faults") == 20);
      // Counted here, not by the approach.
      const locate::Judgement after = locate::judge_split(fixed, tiny_data().split("repair"), 50);
      for (int64_t k = 0; k < points; ++k)
        REQUIRE(std::ranges::binary_search(after.correct, nearest[static_cast<size_t>(k)]));
      REQUIRE(outcome.log.scalars.at("least_margin") >= 1e-3 - 1e-5);
      const at::Tensor difference =
          (kernel(fixed, "fc2.weight").to(at::kDouble) - kernel(tiny_network(), "fc2.weight").to(at::kDouble))
              .abs();
      REQUIRE((norm == "linf" ? difference.max() : difference.sum()).item<double>() ==
              Approx(outcome.log.scalars.at("cost")).epsilon(1e-4).margin(1e-6));
      REQUIRE(outcome.log.scalars.at("cost") >= before);
      before = outcome.log.scalars.at("cost");
      check_touched(tiny_network(), outcome.result);
      REQUIRE(outcome.result.touched.weights.size() == 1);
      REQUIRE(outcome.result.touched.weights.count("fc2.weight") == 1);
      double kept = 0;
      for (const int64_t n : view.judgement.correct) kept += std::ranges::binary_search(after.correct, n);
      REQUIRE(outcome.log.scalars.at("correct_kept") == kept);
    }
  }
}

TEST_CASE("3M for one point is the closed form", "[3m]") {
  const HeadView view =
      view_head(tiny_network(), *last_dense_layer(tiny_network()), tiny_data().split("repair"), 50);
  const int64_t n = faults_by_gap(view)[0], label = view.judgement.labels[n].item<int64_t>();
  const double gap = (view.logits[n].max() - view.logits[n][label]).item<double>();
  const Outcome outcome =
      run(setup_for("3M", {{"margin", 0.25}, {"norm", "linf"}, {"n_points", 1}, {"search", "none"}}));
  REQUIRE(outcome.log.scalars.at("cost") ==
          Approx((gap + 0.25) / (2 * view.phi[n].abs().to(at::kDouble).sum().item<double>())));
}

TEST_CASE("a margin that float32 swallows is doubled", "[3m]") {
  const Outcome outcome = run(setup_for("3M", {{"margin", 0}, {"n_points", 4}, {"search", "none"}}));
  REQUIRE(outcome.result.network.has_value());
  REQUIRE(outcome.log.scalars.at("repaired") == 4);
  // A tie may or may not fall on the right side; the margin says which it was.
  REQUIRE((outcome.log.scalars.at("margin") == 0) == (outcome.log.scalars.at("doublings") == 0));
}

TEST_CASE("3M on random points and on all of them", "[3m]") {
  const auto digest = [](uint64_t seed) {
    FixContext::Setup setup = setup_for("3M", {{"choice", "random"}, {"n_points", 2}});
    setup.seed = seed;
    return run(std::move(setup)).result.network->digest();
  };
  REQUIRE(digest(1) == digest(1));
  REQUIRE(digest(1) != digest(2));
  // 20 faults with random labels in 10 features: contradictory demands.
  const Outcome all = run(setup_for("3M", {{"n_points", 1000}}));
  REQUIRE_FALSE(all.result.network.has_value());
  REQUIRE(all.result.failure.code == "no_fix");
  REQUIRE(all.result.failure.text.find("infeasible") != std::string::npos);
}

TEST_CASE("3M where something lies between the last layers", "[3m]") {
  const Outcome outcome = run(setup_for("3M", {{"n_points", 3}}), branched_network());
  REQUIRE(outcome.log.scalars.at("repaired") == 3);
  REQUIRE(outcome.log.counters.count("proposals") == 0);
  REQUIRE(outcome.result.note.find("; single layer: no dense layer and ReLU before the last") !=
          std::string::npos);
  check_touched(branched_network(), outcome.result);
}

TEST_CASE("3M's search shares the change between two layers", "[3m]") {
  for (const std::string norm : {"linf", "l1"}) {
    for (const std::string search : {"random", "greedy", "mcts"}) {
      INFO(norm << " " << search);
      const nlohmann::json parameters = {{"norm", norm},    {"search", search}, {"n_points", 2}, {"depth", 3},
                                         {"proposals", 96}, {"width", 24},      {"margin", 0.5}};
      const Outcome outcome = run(setup_for("3M", parameters));
      const FixLog& log = outcome.log;
      REQUIRE(log.scalars.at("repaired") == 2);
      REQUIRE(log.scalars.at("cost") <= log.scalars.at("single_layer_cost"));
      REQUIRE(log.counters.at("proposals") <= 96);
      check_touched(tiny_network(), outcome.result);
      const bool single = outcome.result.note ==
                          "2 of 20 faults were requested; single layer: no smaller "
                          "shared change was found";
      REQUIRE(single == (log.scalars.at("moves") == 0));
      if (single) continue;
      REQUIRE(outcome.result.note == "2 of 20 faults were requested");
      REQUIRE(log.scalars.at("cost") < log.scalars.at("single_layer_cost"));
      REQUIRE(outcome.result.touched.weights.count("fc1.weight") == 1);
      if (norm == "linf") {
        const Network& fixed = *outcome.result.network;
        REQUIRE(std::max(largest_change(fixed, "fc1.weight"), largest_change(fixed, "fc2.weight")) ==
                Approx(log.scalars.at("cost")).epsilon(1e-4));
      }
    }
  }
  const Outcome greedy =
      run(setup_for("3M", {{"norm", "linf"}, {"n_points", 2}, {"margin", 0.5}, {"width", 24}}));
  REQUIRE(greedy.log.scalars.at("moves") > 0);  // not all of the above may stay where they start
  // That was the default, which is greedy here.
  const Outcome named = run(setup_for(
      "3M", {{"norm", "linf"}, {"search", "greedy"}, {"n_points", 2}, {"margin", 0.5}, {"width", 24}}));
  REQUIRE(changed_values(*greedy.result.network, *named.result.network).empty());
}

TEST_CASE("an interrupted 3M goes on bit for bit", "[3m]") {
  for (const std::string search : {"random", "greedy", "mcts"}) {
    const nlohmann::json parameters = {{"search", search}, {"n_points", 2}, {"depth", 3},
                                       {"proposals", 48},  {"width", 12},   {"margin", 0.5},
                                       {"norm", "linf"}};
    const Outcome whole = run(setup_for("3M", parameters));
    const int64_t proposals = whole.log.counters.at("proposals");
    for (const int64_t at : {int64_t{0}, int64_t{5}, proposals - 1}) {
      INFO(search << " stopped before proposal " << at);
      MemorySlot memory;
      FixContext::Setup first = setup_for("3M", parameters);
      first.checkpoint = memory.slot();
      bool stopped = false;
      first.progress = [&, search_begun = int64_t{0}](double, const std::string& what) mutable {
        if (what == "search" && search_begun++ == at) stopped = true;
      };
      first.stop = [&stopped] { return stopped; };
      const Outcome part = run(std::move(first));
      REQUIRE(memory.saves == 1);
      REQUIRE(part.result.network.has_value());  // the single-layer change at least
      REQUIRE(part.log.scalars.at("repaired") == 2);
      REQUIRE(part.result.note.starts_with("2 of 20 faults were requested; stopped after " +
                                           std::to_string(at) + " proposals"));
      FixContext::Setup second = setup_for("3M", parameters);
      second.checkpoint = memory.slot();
      const Outcome rest = run(std::move(second));
      REQUIRE(changed_values(*whole.result.network, *rest.result.network).empty());
      REQUIRE(rest.log.counters == whole.log.counters);
      REQUIRE(rest.log.scalars == whole.log.scalars);
      REQUIRE(rest.result.note == whole.result.note);
    }
  }
}

// Those of a split that the network gets right.
std::vector<int64_t> right_of(const Network& network, const std::string& split) {
  return locate::judge_split(network, tiny_data().split(split), 50).correct;
}

// Every number of faults by itself, without any rule that ends it early: what the choice has to agree with.
TEST_CASE("3M keeps the number of faults that is best on the validation split", "[3m]") {
  int64_t ended_early = 0;
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    for (const std::string norm : {"l1", "linf"}) {
      for (const std::string choice : {"smallest_gap", "random"}) {
        INFO((network == &tiny_network() ? "tiny " : "branched ") << norm << " " << choice);
        const nlohmann::json parameters = {{"norm", norm}, {"choice", choice}, {"search", "none"}};
        const Outcome chosen = run(setup_for("3M", parameters), *network);
        REQUIRE(chosen.result.network.has_value());
        const std::vector<double>&requested = chosen.log.series.at("requested"),
              &accuracy = chosen.log.series.at("accuracy");
        REQUIRE(accuracy.size() == requested.size());
        const size_t before = right_of(*network, "validation").size();
        REQUIRE(requested[0] == 0);
        REQUIRE(accuracy[0] == Approx(100.0 * static_cast<double>(before) / 24));
        const auto faults = static_cast<int64_t>(chosen.log.scalars.at("faults"));
        int64_t best = 0;
        size_t most = 0, tried = 1;
        std::optional<std::string> best_digest;
        bool answered = true;
        for (int64_t count = 1; answered; count = std::min(2 * count, faults)) {
          nlohmann::json one = parameters;
          one["n_points"] = count;
          const Outcome alone = run(setup_for("3M", one), *network);
          answered = alone.result.network.has_value();
          if (answered) {
            const size_t right = right_of(*alone.result.network, "validation").size();
            if (tried < requested.size()) {
              REQUIRE(requested[tried] == static_cast<double>(count));
              REQUIRE(accuracy[tried] == Approx(100.0 * static_cast<double>(right) / 24));
              ++tried;
            } else {
              ++ended_early;
            }
            if (right >= most) most = right, best = count, best_digest = alone.result.network->digest();
          } else {
            REQUIRE(alone.result.failure.text.find("infeasible") != std::string::npos);
          }
          if (count == faults) break;
        }
        REQUIRE(tried == requested.size());
        REQUIRE(chosen.log.scalars.at("promised") == static_cast<double>(best));
        REQUIRE(chosen.log.scalars.at("repaired") == static_cast<double>(best));
        REQUIRE(chosen.result.network->digest() == best_digest);
        REQUIRE(chosen.result.note.starts_with(std::to_string(best) + " of " + std::to_string(faults) +
                                               " faults were requested"));
      }
    }
  }
  REQUIRE(ended_early > 0);
}

TEST_CASE("3M chooses on the repair split where there is no other, and says so", "[3m]") {
  const testing::TemporaryFolder folder;
  const std::string file = (folder / "bare.h5").string();
  testing::run_python("import h5py, shutil\nshutil.copy('" + tiny_data().file().string() + "', '" + file +
                      "')\nwith h5py.File('" + file + "', 'r+') as f:\n    del f['validation']\n");
  const Dataset bare = Dataset::open(file);
  FixContext::Setup setup = setup_for("3M", {{"search", "none"}});
  setup.data = &bare;
  const Outcome outcome = run(std::move(setup));
  const std::vector<double>& accuracy = outcome.log.series.at("accuracy");
  REQUIRE(accuracy[0] == Approx(100.0 * 100 / 120));
  REQUIRE(
      outcome.result.note.find("faults were requested, a number chosen on the repair split, as there is no "
                               "validation split; ") != std::string::npos);
  const double most = *std::max_element(accuracy.begin() + 1, accuracy.end());
  REQUIRE(static_cast<double>(right_of(*outcome.result.network, "repair").size()) == Approx(1.2 * most));
}

TEST_CASE("a 3M that is stopped between or in its programs keeps the best so far", "[3m]") {
  testing::require_same_after_stops([] { return setup_for("3M", {{"search", "none"}}); });
  testing::require_same_after_stops([] { return setup_for("3M", {{"proposals", 40}, {"norm", "linf"}}); });
  int64_t stops = 0;
  for (const Network* network : {&tiny_network(), &branched_network()}) {
    for (const std::string norm : {"l1", "linf"}) {
      const Outcome whole = run(setup_for("3M", {{"norm", norm}}), *network);
      // Stopped in the program after the first `at`.
      for (int64_t at = 1; at + 1 < std::ssize(whole.log.series.at("requested")); ++at, ++stops) {
        INFO(norm << " " << at);
        MemorySlot memory;
        FixContext::Setup first = setup_for("3M", {{"norm", norm}});
        first.checkpoint = memory.slot();
        int64_t begun = 0, polls = 0;
        first.progress = [&](double, const std::string& what) { begun += what == "solve", polls = 0; };
        first.stop = [&] { return begun == at + 1 && ++polls == 2; };
        const Outcome part = run(std::move(first), *network);
        REQUIRE(memory.saves == 1);
        REQUIRE(part.result.network.has_value());
        REQUIRE(std::ssize(part.log.series.at("requested")) == at + 1);
        REQUIRE(part.log.scalars.at("promised") <= std::pow(2, at - 1));
        REQUIRE(part.result.note.find("; stopped before " + std::to_string(1 << at) +
                                      " were; single layer") != std::string::npos);
      }
    }
  }
  REQUIRE(stops >= 4);
}

TEST_CASE("3M's statuses", "[3m]") {
  FixContext::Setup stopped = setup_for("3M");
  stopped.stop = [] { return true; };
  const Outcome timeout = run(std::move(stopped));
  REQUIRE(timeout.result.failure.code == "timeout");
  const auto adapt = [&](const Network& network, const nlohmann::json& parameters, int64_t faults) {
    const FixContext::Setup setup = setup_for("3M", parameters);
    const auto refusal = find_approach("3M")->adapt({.network = &network,
                                                     .data = &tiny_data(),
                                                     .hyperparameters = setup.hyperparameters,
                                                     .repair_faults = faults});
    return refusal ? refusal->code : std::string();
  };
  REQUIRE(adapt(tiny_network(), nlohmann::json::object(), 1).empty());
  REQUIRE(adapt(tiny_network(), {{"search", "mcts"}}, 1).empty());
  REQUIRE(adapt(tiny_network(), nlohmann::json::object(), 0) == "no_faults");
  REQUIRE(adapt(branched_network(), nlohmann::json::object(), 1).empty());
  REQUIRE(adapt(branched_network(), {{"search", "none"}}, 1).empty());
  REQUIRE(adapt(branched_network(), {{"search", "mcts"}}, 1) == "structure");
  Network capped = tiny_network().fork();
  Node relu;
  relu.kind = NodeKind::relu;
  relu.name = "cap";
  relu.inputs = {capped.logits_node()};
  capped.insert_after(capped.logits_node(), relu);
  REQUIRE(adapt(capped, nlohmann::json::object(), 1) == "structure");
}

}  // namespace
}  // namespace harness
