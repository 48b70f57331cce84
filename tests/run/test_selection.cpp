#include <cstdlib>

#include "harness/core/error.hpp"
#include "harness/plan/selection.hpp"
#include "tests/support.hpp"

using namespace harness;

namespace {

constexpr const char* kVariables[] = {"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX",
                                      "SLURM_ARRAY_TASK_COUNT"};

// Slurm's array variables while it lives; an empty text leaves one out.
struct Array {
  explicit Array(const std::vector<std::string>& values) {
    for (size_t i = 0; i < 4; ++i) {
      unsetenv(kVariables[i]);
      if (i < values.size() && !values[i].empty()) setenv(kVariables[i], values[i].c_str(), 1);
    }
  }
  ~Array() {
    for (const char* name : kVariables) unsetenv(name);
  }
};

plan::Shard in_array(const std::vector<std::string>& values) {
  const Array array(values);
  return plan::choose_shard(std::nullopt);
}

std::string place_of(const std::string& shard) {
  try {
    plan::choose_shard(shard);
  } catch (const UserError& error) {
    return error.problems().front().place;
  }
  return "";
}

}  // namespace

TEST_CASE("globs: a star is any text over slashes, a question mark one character") {
  CHECK(plan::matches("MNIST/AR/1", "MNIST/AR/1"));
  CHECK_FALSE(plan::matches("MNIST/AR/1", "MNIST/AR/10"));
  CHECK_FALSE(plan::matches("AR", "MNIST/AR/1"));
  CHECK(plan::matches("*", ""));
  CHECK(plan::matches("*/AR/*", "MNIST/AR/1"));
  CHECK(plan::matches("*AR*", "MNIST/RAND:AR/3"));
  CHECK_FALSE(plan::matches("*/AR/*", "MNIST/RAND:AR/3"));
  CHECK(plan::matches("MNIST/?\?/1", "MNIST/AR/1"));
  CHECK_FALSE(plan::matches("MNIST/?\?/1", "MNIST/A/1"));
  CHECK(plan::matches("*a*b*", "xxaxxaxxbxx"));
  CHECK_FALSE(plan::matches("*a*b", "xxaxxbxx"));
  CHECK(plan::matches("a[b].c", "a[b].c"));  // nothing else is special
  CHECK_FALSE(plan::matches("", "a"));
}

TEST_CASE("a shard comes from the option, else from Slurm's array, whole or not at all") {
  const plan::Shard given = plan::choose_shard("2/4");
  CHECK(given.index == 2);
  CHECK(given.count == 4);
  for (const char* wrong : {"0/4", "5/4", "2", "2/", "/4", "a/b", "2/4/8", "-1/4", "", "1.5/2"}) {
    INFO(wrong);
    CHECK(place_of(wrong) == "--shard");
  }
  CHECK(in_array({}).count == 1);
  const plan::Shard slurm = in_array({"7", "5", "9", "5"});
  CHECK(slurm.index == 3);
  CHECK(slurm.count == 5);
  CHECK(in_array({"0", "0", "0", "1"}).index == 1);
  CHECK_THROWS_AS(in_array({"7", "5", "9", ""}), UserError);  // half given
  CHECK_THROWS_AS(in_array({"", "5", "9", "5"}), UserError);
  CHECK(slurm.task == 7);
  const plan::Shard gaps = in_array({"7", "5", "9", "3"});  // only a divided plan can explain it
  CHECK(gaps.count == 0);
  CHECK(gaps.task == 7);
  CHECK_THROWS_AS(in_array({"4", "5", "9", "5"}), UserError);
  CHECK_THROWS_AS(in_array({"x", "5", "9", "5"}), UserError);
  const Array array({"7", "5", "9", "5"});
  CHECK(plan::choose_shard("1/2").count == 2);  // the option goes first
}
