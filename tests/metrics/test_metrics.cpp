#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>

#include "harness/core/random.hpp"
#include "harness/measure/metrics/outcomes.hpp"
#include "harness/store/results.hpp"
#include "tests/metrics/value_of.hpp"

using namespace harness;
using testing::value_of;

namespace {

double number(const std::string& name, const metrics::Evaluation& run) {
  const metrics::MetricValue value = value_of(name, run);
  INFO(name << ": " << value.reason);
  REQUIRE(value.value.has_value());
  return *value.value;
}

std::string reason(const std::string& name, const metrics::Evaluation& run) {
  const metrics::MetricValue value = value_of(name, run);
  REQUIRE_FALSE(value.value.has_value());
  return value.reason.substr(0, value.reason.find(':'));
}

// Predictions that agree with the label with the given probability.
std::vector<int32_t> predict(RandomStream& random, const std::vector<int32_t>& label, int64_t classes,
                             double right) {
  std::vector<int32_t> result;
  for (int32_t truth : label) {
    result.push_back(random.uniform() < right ? truth : static_cast<int32_t>(random.below(classes)));
  }
  return result;
}

metrics::SplitOutcome random_split(RandomStream& random, int64_t images, int64_t classes) {
  metrics::SplitOutcome split;
  for (int64_t i = 0; i < images; ++i) split.label.push_back(static_cast<int32_t>(random.below(classes)));
  split.original = predict(random, split.label, classes, 0.8);
  split.fixed = predict(random, split.label, classes, 0.85);
  return split;
}

metrics::AttackOutcome attack_on(std::vector<int64_t> images, std::vector<uint8_t> original,
                                 std::vector<uint8_t> fixed) {
  metrics::AttackOutcome attack;
  attack.zero_gradient.assign(images.size(), 0);
  attack.zero_gradient_original.assign(images.size(), 0);
  attack.image = std::move(images);
  attack.original = std::move(original);
  attack.fixed = std::move(fixed);
  return attack;
}

}  // namespace

TEST_CASE("a file of a cell that is there and cannot be opened now is no damage, one that is not there is") {
  std::string name = (std::filesystem::temp_directory_path() / "metrics_XXXXXX").string();
  REQUIRE(mkdtemp(name.data()) != nullptr);
  const std::filesystem::path file = std::filesystem::path(name) / "attack.csv";
  const auto damage = [&file](const auto& read) {
    try {
      static_cast<void>(read(file));
    } catch (const ResultsError&) {
      return true;
    } catch (const UserError&) {
      return false;
    }
    FAIL("it was read");
    return false;
  };
  const auto is_damage = [&] { return damage(metrics::read_attack) + damage(metrics::read_predictions); };
  CHECK(is_damage() == 2);
  std::ofstream(file) << "image,original,fixed,zero_gradient_original,zero_gradient\n";
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit none{0, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
  const int damaged = is_damage();
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(damaged == 0);
  std::filesystem::remove_all(name);
}

TEST_CASE("every metric of the design is registered once, with its table, unit and direction") {
  std::set<std::string> names;
  for (const metrics::Metric& metric : metrics::all()) {
    CHECK(names.insert(metric.name).second);
    CHECK((metric.table == "rq2" || metric.table == "rq3"));
    CHECK((metric.unit == "percent" || metric.unit == "count" || metric.unit == "fraction"));
    CHECK(metric.compute);
    CHECK(metric.mark_above.has_value() == !metric.mark.empty());
  }
  for (const char* name :
       {"ACC", "ACC_REL_IMPROVEMENT", "RR", "REPAIRED", "NFR", "BROKEN", "ACC_REPAIR", "RR_REPAIR",
        "NFR_REPAIR", "ASR", "ASR_ORIGINAL", "ASR_REL_IMPROVEMENT", "ASR_MARGIN", "ASR_MARGIN_ORIGINAL",
        "ZERO_GRADIENT", "ATTACKED", "AAOD", "AAOD_REL_IMPROVEMENT"}) {
    INFO(name);
    CHECK(names.count(name) == 1);
  }
  const bool sorted = std::is_sorted(metrics::all().begin(), metrics::all().end(),
                                     [](const metrics::Metric& a, const metrics::Metric& b) {
                                       return std::tie(a.table, a.order) < std::tie(b.table, b.order);
                                     });
  CHECK(sorted);
}

TEST_CASE("counts by hand") {
  metrics::Evaluation run;
  run.classes = 3;
  // right before: images 0, 1, 2, 3; after: 1, 2, 3, 4, 5
  run.test = {.label = {0, 1, 2, 0, 1, 2, 0, 1},
              .original = {0, 1, 2, 0, 0, 0, 1, 0},
              .fixed = {1, 1, 2, 0, 1, 2, 2, 2},
              .group = {}};
  CHECK(number("ACC", run) == 62.5);
  CHECK(number("ACC_REL_IMPROVEMENT", run) == 25.0);
  CHECK(number("RR", run) == 50.0);
  CHECK(number("REPAIRED", run) == 2);
  CHECK(number("NFR", run) == 12.5);  // of all eight images, not of the four right ones
  CHECK(number("BROKEN", run) == 1);
  run.repair =
      metrics::SplitOutcome{.label = {0, 1, 2}, .original = {1, 1, 1}, .fixed = {0, 1, 1}, .group = {}};
  CHECK(number("ACC_REPAIR", run) == Approx(200.0 / 3));
  CHECK(number("RR_REPAIR", run) == 50.0);
  CHECK(number("NFR_REPAIR", run) == 0.0);
  CHECK(number("REPAIRED_REPAIR", run) == 1);
  CHECK(number("BROKEN_REPAIR", run) == 0);
  CHECK(number("ACC_REL_IMPROVEMENT_REPAIR", run) == 100.0);
}

TEST_CASE("accuracy follows from the original's, RR and NFR") {
  RandomStream random(derive_seed(7, "identity"));
  for (int round = 0; round < 300; ++round) {
    const int64_t classes = 2 + random.below(9);
    metrics::Evaluation run;
    run.classes = classes;
    run.test = random_split(random, 1 + random.below(400), classes);
    metrics::Evaluation unchanged = run;
    unchanged.test.fixed = unchanged.test.original;
    const double before = number("ACC", unchanged);
    CHECK(number("ACC_REL_IMPROVEMENT", unchanged) == 0.0);
    const metrics::MetricValue rate = value_of("RR", run);
    const double repaired = rate.value ? *rate.value * (100 - before) / 100 : 0.0;
    CHECK(number("ACC", run) == Approx(before + repaired - number("NFR", run)).margin(1e-9).epsilon(0));
  }
}

TEST_CASE("undefined values say why") {
  metrics::Evaluation run;
  run.classes = 2;
  CHECK(reason("ACC", run) == "no_images");
  CHECK(reason("AAOD", run) == "no_images");
  run.test = {.label = {0, 1}, .original = {0, 1}, .fixed = {0, 0}, .group = {}};
  CHECK(reason("RR", run) == "no_faults");
  CHECK(number("REPAIRED", run) == 0);
  CHECK(reason("ACC_REPAIR", run) == "no_repair_split");
  CHECK(reason("AAOD", run) == "no_groups");
  CHECK(reason("AAOD_REL_IMPROVEMENT", run) == "no_groups");
  CHECK(reason("ASR", run) == "no_attack");
  CHECK(reason("ATTACKED", run) == "no_attack");
  run.no_attack_reason = "not_attackable: black box";
  CHECK(reason("ASR_REL_IMPROVEMENT", run) == "not_attackable");
  run.attack.emplace();
  CHECK(reason("ASR", run) == "no_attacked_images");
  CHECK(number("ATTACKED", run) == 0);
  run.attack = attack_on({4, 7}, {0, 0}, {0, 1});
  CHECK(reason("ASR_MARGIN", run) == "not_measured");
  CHECK(number("ASR", run) == 50.0);
  CHECK(reason("ASR_REL_IMPROVEMENT", run) == "no_baseline");
  run.test.original = {1, 0};
  CHECK(reason("ACC_REL_IMPROVEMENT", run) == "no_baseline");
  run.test = {.label = {0, 1, 0, 1}, .original = {0, 1, 0, 1}, .fixed = {0, 0, 0, 1}, .group = {0, 0, 1, 1}};
  CHECK(number("AAOD", run) == 0.5);
  CHECK(reason("AAOD_REL_IMPROVEMENT", run) == "no_baseline");
}

TEST_CASE("attack success and gradient masking") {
  metrics::Evaluation run;
  run.attack = attack_on({3, 1, 2, 9}, {1, 1, 1, 1}, {1, 0, 1, 0});
  run.attack->zero_gradient = {0, 1, 0, 0};
  run.attack->original_margin = {1, 1, 1, 0};
  run.attack->fixed_margin = {1, 1, 1, 1};
  CHECK(number("ASR", run) == 50.0);
  CHECK(number("ASR_ORIGINAL", run) == 100.0);
  CHECK(number("ASR_REL_IMPROVEMENT", run) == 50.0);
  CHECK(number("ASR_MARGIN", run) == 100.0);
  CHECK(number("ASR_MARGIN_ORIGINAL", run) == 75.0);
  CHECK(number("ZERO_GRADIENT", run) == 25.0);
  CHECK(number("ATTACKED", run) == 4);
  for (const metrics::Metric& metric : metrics::all()) {
    if (metric.name != "ZERO_GRADIENT") continue;
    CHECK(metric.mark_above == 5.0);
    CHECK(metric.mark.substr(0, 17) == "gradient masking:");
  }
}

TEST_CASE("several runs are compared on the images attacked in all of them") {
  std::vector<metrics::Evaluation> runs(4);
  runs[0].attack = attack_on({5, 1, 8, 2}, {1, 0, 1, 0}, {1, 1, 0, 0});
  runs[0].attack->fixed_margin = {1, 0, 1, 0};
  runs[1].attack = attack_on({1, 8, 2, 6}, {0, 1, 0, 1}, {0, 1, 1, 1});
  runs[2].attack = attack_on({5, 1, 2, 6}, {1, 0, 0, 1}, {1, 1, 1, 1});
  const auto common = metrics::restrict_to_common(runs);  // images 1 and 2; run 3 was not attacked
  REQUIRE(common.size() == 4);
  for (int k = 0; k < 3; ++k) CHECK(common[k].attack->image == std::vector<int64_t>{1, 2});
  CHECK(common[0].attack->fixed == std::vector<uint8_t>{1, 0});
  CHECK(common[0].attack->fixed_margin == std::vector<uint8_t>{0, 0});
  CHECK(common[0].attack->zero_gradient.size() == 2);
  CHECK(common[1].attack->fixed == std::vector<uint8_t>{0, 1});
  CHECK(common[1].attack->fixed_margin.empty());
  CHECK(common[2].attack->fixed == std::vector<uint8_t>{1, 1});
  CHECK_FALSE(common[3].attack.has_value());
  runs[2].attack = attack_on({77}, {1}, {1});
  for (int k = 0; k < 3; ++k) CHECK(metrics::restrict_to_common(runs)[k].attack->image.empty());
}

TEST_CASE("restriction to common images, random runs") {
  RandomStream random(derive_seed(7, "common"));
  for (int round = 0; round < 50; ++round) {
    std::vector<metrics::Evaluation> runs(1 + static_cast<size_t>(random.below(4)));
    const auto order = random.permutation(60);
    std::vector<int> seen(60, 0);
    for (metrics::Evaluation& run : runs) {
      metrics::AttackOutcome attack;
      for (int64_t image : order) {
        if (random.uniform() < 0.3) continue;
        ++seen[static_cast<size_t>(image)];
        attack.image.push_back(image);
        attack.fixed.push_back(static_cast<uint8_t>(image % 3 == 0));
        attack.original.push_back(static_cast<uint8_t>(image % 2));
      }
      run.attack = attack;
    }
    std::vector<int64_t> expected;
    for (int64_t image : order) {
      if (seen[static_cast<size_t>(image)] == static_cast<int>(runs.size())) expected.push_back(image);
    }
    for (const metrics::Evaluation& run : metrics::restrict_to_common(runs)) {
      CHECK(run.attack->image == expected);
      for (size_t k = 0; k < expected.size(); ++k) {
        REQUIRE(run.attack->fixed[k] == (expected[k] % 3 == 0));
        REQUIRE(run.attack->original[k] == expected[k] % 2);
      }
    }
  }
}
