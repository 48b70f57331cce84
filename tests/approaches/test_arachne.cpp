// AR as a whole: what it computes before, during and after its search.
#include <cmath>
#include <set>

#include "approaches/locate/faults.hpp"
#include "approaches/locate/impact.hpp"
#include "approaches/search/split_pass.hpp"
#include "tests/approaches/convolution_counter.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/approaches/heads.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::changed_values;
using testing::ConvolutionCounter;
using testing::head_network;
using testing::MemorySlot;
using testing::Outcome;
using testing::run;
using testing::setup_for;
using testing::tiny_data;
using testing::tiny_network;

const nlohmann::json kSmallArachne = {{"negatives", "all"}, {"population", 8}, {"generations", 4}};

nlohmann::json with(nlohmann::json parameters, const nlohmann::json& more) {
  parameters.update(more);
  return parameters;
}

// Convolutions that localisation alone computes, with the negatives and as many positives, in batches of 50.
int64_t convolutions_of_localisation() {
  const Split& split = tiny_data().split("repair");
  const locate::Judgement judgement = locate::judge_split(tiny_network(), split, 50);
  RandomStream stream(1);
  const std::vector<int64_t> some =
      locate::matching_positives(judgement, std::ssize(judgement.wrong), stream);
  const ConvolutionCounter counter;
  for (const std::vector<int64_t>& samples : {judgement.wrong, some})
    locate::weight_scores(tiny_network(), target_layers(tiny_network()), split, samples, {.batching = 50});
  return counter.count();
}

TEST_CASE("AR on the last layer goes through the network once, whatever it searches") {
  const int64_t localised = convolutions_of_localisation();
  REQUIRE(localised >= 4);
  for (const int64_t generations : {0, 4}) {
    FixContext::Setup setup = setup_for("AR", with(kSmallArachne, {{"generations", generations}}));
    setup.batch = 50;
    const ConvolutionCounter counter;
    const Outcome outcome = run(std::move(setup));
    REQUIRE(outcome.result.network);
    REQUIRE(outcome.log.scalars.at("touched_logits") == 1);
    CHECK(counter.count() == 3 * 2 + localised);  // three batches of the split, two convolutions
  }
}

TEST_CASE("once stopped, AR sends nothing more through the network") {
  int64_t stops = 0, with_network = 0;
  for (const std::string key : {"AR", "RAND"}) {
    for (int64_t stop_at = 0; stop_at < 400; stop_at += 7) {
      const ConvolutionCounter counter;
      int64_t polls = 0, at_stop = -1;
      FixContext::Setup setup = setup_for(key, kSmallArachne, key == "RAND" ? "AR" : "");
      setup.stop = [&] {
        const bool stop = polls++ >= stop_at;
        if (stop && at_stop < 0) at_stop = counter.count();
        return stop;
      };
      Outcome outcome;
      try {
        outcome = run(std::move(setup));
      } catch (const FixStopped&) {
      }
      if (at_stop < 0) break;  // it was over before
      ++stops;
      INFO(key << " stopped at " << stop_at);
      CHECK(counter.count() == at_stop);
      if (!outcome.result.network) continue;
      ++with_network;
      REQUIRE(outcome.log.counters.at("evaluations") >= 8);
      REQUIRE(outcome.log.scalars.count("negatives_fixed") + outcome.log.scalars.count("positives_broken") ==
              2);
    }
  }
  REQUIRE(stops > 10);
  REQUIRE(with_network > 3);
}

TEST_CASE("AR's numbers are those of the network that it returns") {
  const Split& split = tiny_data().split("repair");
  const locate::Judgement before = locate::judge_split(tiny_network(), split, 50);
  for (const int64_t positives : {0, 30}) {
    for (const std::string key : {"AR", "RAND"}) {
      INFO(key << ", positives " << positives);
      const Outcome outcome =
          run(setup_for(key, with(kSmallArachne, {{"positives", positives}, {"keep_original", false}}),
                        key == "RAND" ? "AR" : ""));
      const locate::Judgement after = locate::judge_split(*outcome.result.network, split, 50);
      std::vector<int64_t> fixed, broken;
      std::ranges::set_intersection(before.wrong, after.correct, std::back_inserter(fixed));
      std::ranges::set_intersection(before.correct, after.wrong, std::back_inserter(broken));
      CHECK(outcome.log.scalars.at("negatives_fixed") == static_cast<double>(fixed.size()));
      CHECK(outcome.log.scalars.at("positives_broken") == static_cast<double>(broken.size()));
      // The fitness on all inputs, from the logits, in float64.
      const auto fitness_of = [&](const Network& network) {
        const at::Tensor logits = network.logits(split.inputs(0, split.size())).to(at::kDouble);
        const at::Tensor losses = at::cross_entropy_loss(logits, split.labels(), {}, at::Reduction::None);
        const at::Tensor right = logits.argmax(1).eq(split.labels());
        const at::Tensor h = at::where(right, at::ones_like(losses), 1 / (losses + 1));
        return h.index_select(0, at::tensor(before.correct, at::kLong)).sum().item<double>() +
               10 * h.index_select(0, at::tensor(before.wrong, at::kLong)).sum().item<double>();
      };
      CHECK(outcome.log.scalars.at("best_fitness") ==
            Approx(fitness_of(*outcome.result.network)).epsilon(1e-5));
      CHECK(outcome.log.scalars.at("original_fitness") == Approx(fitness_of(tiny_network())).epsilon(1e-5));
    }
  }
}

TEST_CASE("positives: the narrowest are searched, and the best verified on all is returned") {
  const Outcome all = run(setup_for("AR", kSmallArachne));
  REQUIRE(all.result.note.empty());
  REQUIRE(all.log.scalars.at("positives_searched") == 100);
  REQUIRE(all.log.series.count("verified_fitness") == 0);
  // As many as there are: the same search.
  const Outcome enough = run(setup_for("AR", with(kSmallArachne, {{"positives", 100}})));
  REQUIRE(changed_values(*all.result.network, *enough.result.network).empty());
  REQUIRE(all.log.series == enough.log.series);

  const Outcome some = run(setup_for("AR", with(kSmallArachne, {{"positives", 30}})));
  REQUIRE(some.log.scalars.at("positives") == 100);
  REQUIRE(some.log.scalars.at("positives_searched") == 30);
  REQUIRE(some.result.note ==
          "searched on the 30 most narrowly correct inputs of 100, each generation's best verified on the "
          "others");
  const std::vector<double>& verified = some.log.series.at("verified_fitness");
  REQUIRE(verified.size() == 5);
  REQUIRE(std::is_sorted(verified.begin(), verified.end()));
  REQUIRE(verified.back() == some.log.scalars.at("best_fitness"));
  const auto& searched = some.log.series.at("best_fitness");  // on fewer inputs
  for (size_t g = 0; g < verified.size(); ++g) REQUIRE(verified[g] <= searched[g] + 70);
  // What the search does not see makes a difference here: its own best is not always the best on all.
  int64_t apart = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    FixContext::Setup setup = setup_for("AR", with(kSmallArachne, {{"positives", 1}, {"alpha", 0.1}}));
    setup.seed = seed;
    const Outcome outcome = run(std::move(setup));
    const auto& series = outcome.log.series.at("verified_fitness");
    const auto& own = outcome.log.series.at("best_fitness");
    for (size_t g = 1; g < series.size(); ++g) apart += own[g] > own[g - 1] && series[g] == series[g - 1];
  }
  REQUIRE(apart > 0);
}

TEST_CASE("the narrowest inputs are those whose label is least far ahead") {
  const Split& split = tiny_data().split("repair");
  const search::SplitPass pass(tiny_network(), split, 50);
  const locate::Judgement judgement = locate::judge_split(tiny_network(), split, 50);
  REQUIRE(pass.judgement().correct == judgement.correct);
  REQUIRE(pass.judgement().wrong == judgement.wrong);
  const at::Tensor logits = tiny_network().logits(split.inputs(0, split.size()));
  const auto margin = [&](int64_t n) {
    const at::Tensor others = logits[n].clone();
    const int64_t label = split.labels()[n].item<int64_t>();
    others[label] = -INFINITY;
    return (logits[n][label] - others.max()).item<double>();
  };
  const std::vector<int64_t> some = pass.narrowest(judgement.correct, 25);
  REQUIRE(some.size() == 25);
  REQUIRE(std::is_sorted(some.begin(), some.end()));
  double widest = 0, narrowest_left = INFINITY;
  for (const int64_t n : judgement.correct) {
    const bool taken = std::binary_search(some.begin(), some.end(), n);
    if (taken) widest = std::max(widest, margin(n));
    if (!taken) narrowest_left = std::min(narrowest_left, margin(n));
  }
  REQUIRE(widest <= narrowest_left + 1e-6);
  REQUIRE(pass.narrowest(judgement.correct, 1000) == judgement.correct);
}

TEST_CASE("AR with verified bests, interrupted anywhere, goes on bit for bit") {
  const nlohmann::json parameters = with(kSmallArachne, {{"positives", 20}});
  for (const std::string key : {"AR", "RAND"}) {
    const std::string shadow = key == "RAND" ? "AR" : "";
    int64_t polls = 0;
    FixContext::Setup counted = setup_for(key, parameters, shadow);
    counted.stop = [&] { return ++polls < 0; };
    const Outcome whole = run(std::move(counted));
    int64_t unverified = 0, resumed = 0;
    for (int64_t at = 3; at < polls; at += 1 + polls / 40) {
      INFO(key << " stopped at " << at << " of " << polls);
      MemorySlot memory;
      FixContext::Setup first = setup_for(key, parameters, shadow);
      first.checkpoint = memory.slot();
      first.stop = [left = at]() mutable { return left-- <= 0; };
      Outcome part;
      try {
        part = run(std::move(first));
      } catch (const FixStopped&) {
        continue;
      }
      if (!part.result.network) {
        REQUIRE(part.result.failure.code == "timeout");
        if (memory.saves == 0) continue;  // before the search
        REQUIRE(part.result.failure.text.find(
                    "stopped before the first population was complete and its best verified: ") == 0);
        unverified += part.result.failure.text.find(": 8 of 8 ") != std::string::npos;
      }
      ++resumed;
      FixContext::Setup second = setup_for(key, parameters, shadow);
      second.checkpoint = memory.slot();
      const Outcome rest = run(std::move(second));
      REQUIRE(changed_values(*whole.result.network, *rest.result.network).empty());
      REQUIRE(whole.log.counters == rest.log.counters);
      REQUIRE(whole.log.series == rest.log.series);
      REQUIRE(whole.log.scalars == rest.log.scalars);
      REQUIRE(whole.result.note == rest.result.note);
    }
    REQUIRE(unverified > 0);
    REQUIRE(resumed > 10);
  }
}

TEST_CASE("AR says where compat_softmax has no effect") {
  const std::string text = "compat_softmax had no effect: the model does not end in a softmax";
  const auto note = [](const char* name, bool compat) {
    const Network& network = head_network(name);
    return run(setup_for("AR", with(kSmallArachne, {{"compat_softmax", compat}})), network).result.note;
  };
  CHECK(note("bare", true).find(text) != std::string::npos);
  CHECK(note("bare_log_softmax", true).find(text) != std::string::npos);
  CHECK(note("bare_softmax", true).find(text) == std::string::npos);
  CHECK(note("bare", false).find(text) == std::string::npos);
  for (const HyperparameterSpec& spec : find_approach("AR")->info.hyperparameters) {
    if (spec.name == "compat_softmax")
      CHECK(spec.meaning.find("models that end in logits") != std::string::npos);
  }
}

}  // namespace
}  // namespace harness
