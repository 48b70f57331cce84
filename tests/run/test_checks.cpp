#include <cmath>
#include <limits>

#include "harness/cell/checks.hpp"
#include "harness/cell/fixing.hpp"
#include "harness/measure/device.hpp"
#include "harness/model/cause.hpp"
#include "tests/run/fixture.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

Network small_network() {
  at::manual_seed(1);
  return Network::load(model_file(), at::rand({4, 1, 4, 4}));
}

// "shapes untouched" for those that hold.
std::string holding(const Network& original, const Network& fixed, const Touched& touched,
                    std::map<std::string, int64_t>* counters) {
  std::string names;
  for (const Invariant& invariant : cell::check_parameters(original, fixed, touched, counters)) {
    if (invariant.holds) names += invariant.name + " ";
  }
  return names;
}

Network changed(const Network& original, const std::string& parameter, std::vector<int64_t> flat,
                float value) {
  Network fixed = original.fork();
  const ParameterId id = fixed.find_parameter(parameter);
  REQUIRE(id >= 0);
  const at::Tensor tensor = fixed.parameters()[static_cast<size_t>(id)].value.clone();
  for (const int64_t place : flat) tensor.view({-1})[place] = value;
  fixed.set_parameter(id, tensor);
  return fixed;
}

}  // namespace

TEST_CASE("a fix may change what it declared and nothing else") {
  const Network original = small_network();
  std::map<std::string, int64_t> counters;
  const Touched two{.everything = false, .weights = {{"b.weight", {1, 5}}}};
  CHECK(holding(original, original, {}, &counters) == "shapes untouched finite ");
  CHECK(counters["changed_weights"] == 0);
  CHECK(holding(original, changed(original, "b.weight", {1, 5}, 9), two, &counters) ==
        "shapes untouched finite ");
  CHECK(counters["changed_weights"] == 2);
  CHECK(holding(original, changed(original, "b.weight", {1, 4, 5}, 9), two, &counters) == "shapes finite ");
  CHECK(counters["changed_weights"] == 3);
  CHECK(holding(original, changed(original, "a.bias", {0}, 9), two, &counters) == "shapes finite ");
  CHECK(holding(original, changed(original, "a.bias", {0}, 9), {.everything = true, .weights = {}},
                &counters) == "shapes untouched finite ");
  CHECK(holding(original, changed(original, "b.weight", {7}, 9),
                {.everything = false, .weights = {{"b.weight", {}}}},
                &counters) == "shapes untouched finite ");
  CHECK(holding(original, changed(original, "b.weight", {1}, std::numeric_limits<float>::quiet_NaN()), two,
                &counters) == "shapes untouched ");
  // bit by bit: minus zero is a change
  const Network zero = changed(original, "b.bias", {0}, 0.0F);
  CHECK(holding(zero, changed(zero, "b.bias", {0}, -0.0F), {}, &counters) == "shapes finite ");
  CHECK(counters["added_weights"] == 0);
}

TEST_CASE("ACC, RR and NFR must fit together") {
  const auto metrics = [](double acc, double rr, double nfr) {
    return std::vector<MetricRecord>{
        {"ACC", "percent", acc, ""}, {"RR", "percent", rr, ""}, {"NFR", "percent", nfr, ""}};
  };
  CHECK(cell::check_identity(metrics(91, 20, 1), 90).holds);
  CHECK_FALSE(cell::check_identity(metrics(91.0001, 20, 1), 90).holds);
  CHECK_FALSE(cell::check_identity({{"ACC", "percent", std::nullopt, "none"}}, 90).holds);
  // no faults: RR has no value
  CHECK(cell::check_identity({{"ACC", "percent", 99.0, ""},
                              {"RR", "percent", std::nullopt, "no_faults"},
                              {"NFR", "percent", 1.0, ""}},
                             100)
            .holds);
}

TEST_CASE("a saved model has to classify as the one in memory") {
  CHECK(cell::check_reload({1, 2, 3, 4}, {1, 2, 3}).holds);
  CHECK_FALSE(cell::check_reload({1, 2, 3, 4}, {1, 2, 4}).holds);
  CHECK(cell::check_reload({1, 2}, {1, 2, 3}).detail == "1 of 3 predictions differ");
}

TEST_CASE("a device that is not there is an error, auto is not") {
  CHECK(choose_device("cpu").kind() == "cpu");
  for (const char* wrong : {"gpu", "CUDA", "cuda:", "cuda:x", "cuda:0,", "cuda:999", ""}) {
    INFO(wrong);
    CHECK_THROWS_AS(choose_device(wrong), UserError);
  }
  const DeviceChoice found = choose_device("auto");
  CHECK((found.kind() == "cuda" || !found.note.empty()));
  if (found.kind() == "cpu") CHECK_THROWS_AS(choose_device("cuda"), UserError);
  CHECK(device_name(at::kCPU).rfind("CPU", 0) == 0);
  CHECK_NOTHROW(require_one_openmp());
}

TEST_CASE("reasons are one line and hold no folder") {
  CHECK(one_line(std::runtime_error("cannot open \"/some/where/file.txt\": no\nsuch thing")) ==
        "cannot open file.txt\": no");
  CHECK(one_line(std::runtime_error("  two   words ")) == "two words");
  CHECK(one_line(std::runtime_error("")) == "an error without a text");
}
