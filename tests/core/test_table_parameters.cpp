// Parameters that are tables of numbers.
#include "harness/config/config.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using nlohmann::json;

ApproachInfo with_levels() {
  ApproachInfo info{.key = "AP", .name = "Apricot"};
  info.hyperparameters = {{.name = "levels",
                           .type = HyperparameterType::table,
                           .default_value = json::object(),
                           .meaning = "",
                           .unit = "",
                           .source = "",
                           .minimum = 0,
                           .is_key = [](const std::string& key) { return key.size() == 1; },
                           .keys = "a letter such as \"a\""}};
  return info;
}

std::map<std::string, double> read(const json& value, std::vector<Problem>* problems) {
  return read_hyperparameters({{"levels", value}}, with_levels(), "here.json", "/parameters", problems)
      .table("levels");
}

TEST_CASE("a table of numbers arrives") {
  std::vector<Problem> problems;
  CHECK(read({{"a", 2}, {"b", 0.5}, {"comment", "why"}}, &problems) ==
        std::map<std::string, double>{{"a", 2}, {"b", 0.5}});
  CHECK(read(json::object(), &problems).empty());
  CHECK(read_hyperparameters(json::object(), with_levels(), "here.json", "", &problems)
            .table("levels")
            .empty());
  CHECK(problems.empty());
}

TEST_CASE("what is wrong in a table is said with its place") {
  std::vector<Problem> problems;
  CHECK(read({{"a", -1}, {"b", "x"}, {"long", 1}, {"d", 3}}, &problems).empty());  // the default
  REQUIRE(problems.size() == 3);
  CHECK(problems[0].place == "/parameters/levels/a");
  CHECK(problems[1].place == "/parameters/levels/b");
  CHECK(problems[2].place == "/parameters/levels/long");
  CHECK(to_text(problems[2]) ==
        "here.json: /parameters/levels/long: found the name \"long\", expected a letter such as \"a\"");
  problems.clear();
  CHECK(read(json::array({1}), &problems).empty());
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].place == "/parameters/levels");
  CHECK(problems[0].expected == "an object from a letter such as \"a\" to a number");
}

}  // namespace
}  // namespace harness
