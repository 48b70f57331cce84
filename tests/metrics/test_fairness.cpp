#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/metrics/value_of.hpp"

using namespace harness;
using testing::value_of;

namespace {

// Random predictions and their AAOD from scikit-learn's one-against-rest confusion matrices: 2 and 10
// classes, with both groups there, one of them absent, and classes that occur in no label, no prediction, or
// one group.
constexpr const char* kIndependent = R"PY(
import json
import numpy
from sklearn.metrics import multilabel_confusion_matrix

random = numpy.random.RandomState(20260101)


def ratio(part, whole):
    return part / whole if whole else 0.0


def aaod(label, predicted, group, classes):
    rates = []
    for g in (0, 1):
        pick = group == g
        if not pick.any():
            return None
        matrices = multilabel_confusion_matrix(label[pick], predicted[pick], labels=list(range(classes)))
        rates.append([(ratio(m[1, 1], m[1, 1] + m[1, 0]), ratio(m[0, 1], m[0, 1] + m[0, 0])) for m in matrices])
    true = sum(abs(a[0] - b[0]) for a, b in zip(*rates)) / classes
    false = sum(abs(a[1] - b[1]) for a, b in zip(*rates)) / classes
    return (true + false) / 2


cases = []
for classes in (2, 10):
    for kind in ("plain", "one group", "no label", "no prediction", "class in one group", "few"):
        for _ in range(10):
            size = random.randint(1, 12) if kind == "few" else random.randint(30, 400)
            label = random.randint(0, classes, size)
            group = (random.rand(size) < random.uniform(0.1, 0.9)).astype(int)
            predicted = [numpy.where(random.rand(size) < random.uniform(0.2, 0.95), label,
                                     random.randint(0, classes, size)) for _ in range(2)]
            if kind == "one group":
                group[:] = random.randint(0, 2)
            if kind == "no label":
                label[label == classes - 1] = 0
            if kind == "no prediction":
                for p in predicted:
                    p[p == 0] = classes - 1
            if kind == "class in one group":
                group[label == 0] = 1
            cases.append({"classes": classes, "kind": kind, "label": label.tolist(), "group": group.tolist(),
                          "original": predicted[0].tolist(), "fixed": predicted[1].tolist(),
                          "aaod_original": aaod(label, predicted[0], group, classes),
                          "aaod": aaod(label, predicted[1], group, classes)})
print(json.dumps(cases))
)PY";

double compute(const std::string& name, const metrics::Evaluation& run) {
  return value_of(name, run).value.value();
}

}  // namespace

TEST_CASE("AAOD equals an independent computation") {
  const auto cases = nlohmann::json::parse(testing::run_python(kIndependent));
  REQUIRE(cases.size() == 120);
  double max_value = 0;
  int empty = 0;
  for (const auto& item : cases) {
    metrics::Evaluation run;
    run.classes = item.at("classes").get<int64_t>();
    run.test = {.label = item.at("label").get<std::vector<int32_t>>(),
                .original = item.at("original").get<std::vector<int32_t>>(),
                .fixed = item.at("fixed").get<std::vector<int32_t>>(),
                .group = item.at("group").get<std::vector<uint8_t>>()};
    if (item.at("aaod").is_null()) {
      ++empty;
      for (const char* name : {"AAOD", "AAOD_ORIGINAL", "AAOD_REL_IMPROVEMENT", "TPR_GAP", "TPR_GAP_ORIGINAL",
                               "FPR_GAP", "FPR_GAP_ORIGINAL"}) {
        const metrics::MetricValue value = value_of(name, run);
        INFO(name);
        CHECK_FALSE(value.value);
        CHECK_THAT(value.reason, Catch::Matchers::StartsWith("empty_group: "));
      }
      const auto images = static_cast<double>(run.test.label.size());
      CHECK(compute("GROUP_0_IMAGES", run) + compute("GROUP_1_IMAGES", run) == images);
      continue;
    }
    const double fixed = compute("AAOD", run), original = compute("AAOD_ORIGINAL", run);
    const double expected = item.at("aaod").get<double>(), before = item.at("aaod_original").get<double>();
    INFO(item.at("kind") << ", " << run.classes << " classes, " << run.test.label.size() << " images");
    CHECK(std::abs(fixed - expected) <= 1e-12);
    CHECK(std::abs(original - before) <= 1e-12);
    if (before > 0) {
      CHECK(compute("AAOD_REL_IMPROVEMENT", run) == Approx(100 * (before - expected) / before).margin(1e-9));
    }
    CHECK(std::abs((compute("TPR_GAP", run) + compute("FPR_GAP", run)) / 2 - expected) <= 1e-12);
    max_value = std::max(max_value, expected);
  }
  CHECK(max_value > 0.1);  // the cases are no trivial zeros
  CHECK(empty >= 20);
}

TEST_CASE("with two classes AAOD is the mean odds difference of either") {
  metrics::Evaluation run;
  run.classes = 2;
  // group 0: TPR of class 1 = 2/3, FPR 1/2; group 1: TPR 1/2, FPR 0
  run.test = {.label = {1, 1, 1, 0, 0, 1, 1, 0},
              .original = {1, 1, 1, 0, 0, 1, 1, 0},
              .fixed = {1, 1, 0, 1, 0, 1, 0, 0},
              .group = {0, 0, 0, 0, 0, 1, 1, 1}};
  CHECK(compute("AAOD", run) == Approx(0.5 * ((2.0 / 3 - 0.5) + 0.5)).epsilon(1e-14));
  CHECK(compute("AAOD_ORIGINAL", run) == 0.0);
  CHECK(compute("TPR_GAP", run) == Approx(0.5 * ((2.0 / 3 - 0.5) + 0.5)).epsilon(1e-14));
  CHECK(compute("FPR_GAP", run) == Approx(0.5 * ((2.0 / 3 - 0.5) + 0.5)).epsilon(1e-14));
  CHECK(compute("TPR_GAP_ORIGINAL", run) == 0.0);
  CHECK(compute("FPR_GAP_ORIGINAL", run) == 0.0);
  CHECK(compute("GROUP_0_IMAGES", run) == 5);
  CHECK(compute("GROUP_1_IMAGES", run) == 3);
}
