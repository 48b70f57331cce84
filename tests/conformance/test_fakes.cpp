// Each property is shown to fail: on an approach that keeps to everything but one thing.
#include <ATen/Parallel.h>

#include "tests/conformance/demand.hpp"
#include "tests/conformance/fakes.hpp"
#include "tests/conformance/situations.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

Complaints stopped(const Case& one) {
  return stop_complaints(one, stops_of(one, 25));
}
Complaints resumed(const Case& one) {
  return resume_complaints(one, stops_of(one, 25));
}
Complaints stopped_twice(const Case& one) {
  return second_stop_complaints(one, stops_of(one, 25));
}
Complaints seeded(const Case& one) {
  return seed_complaints(one, true);
}
Complaints touched(const Case& one) {
  return touched_complaints(one);
}

using Property = Complaints (*)(const Case&);
struct Caught {
  std::string fault;
  Property property;
  std::string says;  // part of a complaint
};

const std::vector<Caught> kCaught = {
    {"deaf", stopped, "times more"},
    {"busy", stopped, "went on for"},
    {"greedy", stopped, "MB more"},
    {"throws", stopped, "threw stopped"},
    {"blames", stopped, "FAILURE no_fix, not timeout"},
    {"sick", stopped, "fc2.weight is not finite"},
    {"unclocked", stopped, "a clock"},
    {"settles early", stopped, "a network after 1 of the first 3 candidates"},
    {"forgets a counter", resumed, "counters differ"},
    {"forgets a weight", resumed, "parameters differ"},
    {"remembers", resumed, "parameters differ"},
    {"asks first", stopped_twice, "a second stop lost the network"},
    {"keeps no checkpoint", stopped_twice, "no checkpoint"},
    {"draws elsewhere", seeded, "the same seed: parameters differ"},
    {"draws nothing", seeded, "makes no difference"},
    {"hides a change", touched, "fc2.weight[17] changed and is not declared"},
    {"moves a buffer", touched, "conv1.bias changed and is not declared"},
    {"declares too many", touched, "out of range"},
    {"declares another weight", touched, "declares fc9.weight"},
    {"counts below zero", touched, "below 0"},
    {"overshoots its progress", touched, "progress"},
    {"unclocked", touched, "a clock"},
    {"ignores its limit", work_complaints, "no parameter limits"},
    {"more for less", work_complaints, "steps = 1 makes 12"},
    {"steps too far", work_complaints, "makes more steps than steps"},
    {"throws", budget_complaints, "instead of timeout: no fix within 0 s: crashed: stopped"},
    {"busy", budget_complaints, "went on for"},
    {"greedy", budget_complaints, "within 0 s: took"},
    {"refuses oddly", budget_complaints, "without a budget: moonlight"},
    {"prints", print_complaints, "printed: one step more"},
    {"complains", print_complaints, "printed: careful"},
    {"refuses late", refusal_complaints, "did work before"},
    {"refuses oddly", refusal_complaints, "an unknown code: moonlight"},
    {"refuses slowly", refusal_complaints, "takes its time"},
    {"refuses without a word", refusal_complaints, "without a line of text"},
    {"fails oddly", refusal_complaints, "no known kind"},
    {"changes the original", side_effect_complaints, "is another one"},
    {"changes the history", side_effect_complaints, "is another one"},
    {"changes threads", side_effect_complaints, "is another one"},
    {"draws elsewhere", side_effect_complaints, "is another one"},
    {"looks at the test split", side_effect_complaints, "the test split poisoned"},
    {"counts the splits", side_effect_complaints, "the test split no_test"},
};

}  // namespace

TEST_CASE("an approach that keeps to everything is not complained of") {
  const Case one = fake();
  Complaints found;
  for (const Property property :
       {stopped, resumed, stopped_twice, seeded, touched, work_complaints, budget_complaints,
        print_complaints, refusal_complaints, side_effect_complaints}) {
    for (const std::string& text : property(one)) found.push_back(text);
  }
  for (const auto& texts : {parameter_complaints(one.approach->info), info_complaints(one.approach->info)})
    found.insert(found.end(), texts.begin(), texts.end());
  demand_none(found);
  const StopsTried stops = stops_of(one, 25);
  CHECK(stops.polls == 3);
  CHECK(stops.at == std::vector<int64_t>{0, 1, 2});
  // it draws, so it may not say that it does not
  CHECK_FALSE(seed_complaints(one, false).empty());
}

TEST_CASE("each fault is found by the property that is there for it") {
  const int threads = at::get_num_threads();
  for (const Caught& caught : kCaught) {
    const std::string found = lines_of(caught.property(fake(caught.fault)));
    at::set_num_threads(threads);
    INFO(caught.fault << ": " << found);
    CHECK(found.find(caught.says) != std::string::npos);
  }
}

TEST_CASE("parameters that say too little or something wrong are found") {
  const auto with = [](const std::function<void(HyperparameterSpec&)>& change) {
    ApproachInfo info{.key = "FAKE", .name = "Fake"};
    info.hyperparameters = {{.name = "way",
                             .default_value = 0.5,
                             .meaning = "which way",
                             .unit = "number",
                             .source = "Sohn et al., TOSEM 2023, section 3",
                             .minimum = 0,
                             .maximum = 1}};
    change(info.hyperparameters[0]);
    return lines_of(parameter_complaints(info));
  };
  const auto holds = [](const std::string& text, const std::string& part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  };
  CHECK(with([](HyperparameterSpec&) {}).empty());
  holds(with([](HyperparameterSpec& spec) { spec.default_value = 1.5; }), "above its maximum");
  holds(with([](HyperparameterSpec& spec) { spec.default_value = -0.5; }), "below its minimum");
  holds(with([](HyperparameterSpec& spec) { spec.default_value = "half"; }), "another type");
  holds(with([](HyperparameterSpec& spec) { spec.default_value = nullptr; }), "no default");
  holds(with([](HyperparameterSpec& spec) { spec.minimum = 2; }), "an empty range");
  holds(with([](HyperparameterSpec& spec) { spec.unit = ""; }), "no unit");
  holds(with([](HyperparameterSpec& spec) { spec.meaning = ""; }), "no meaning");
  holds(with([](HyperparameterSpec& spec) { spec.name = "Way out"; }), "lower case");
  holds(with([](HyperparameterSpec& spec) { spec.source = ""; }), "nobody can open");
  holds(with([](HyperparameterSpec& spec) { spec.source = "section 3"; }), "nobody can open");
  holds(with([](HyperparameterSpec& spec) { spec.source = "public code; card arachne.md"; }),
        "cites what is not");
  holds(with([](HyperparameterSpec& spec) { spec.source = "our choice: DESIGN 5"; }), "cites what is not");
  holds(with([](HyperparameterSpec& spec) {
          spec.type = HyperparameterType::text;
          spec.default_value = "up";
          spec.minimum = spec.maximum = std::nullopt;
          spec.choices = {"left", "right"};
        }),
        "none of its choices");
  holds(with([](HyperparameterSpec& spec) { spec.keys = "a label"; }), "names of what is none");
  const auto table = [](HyperparameterSpec& spec) {
    spec.type = HyperparameterType::table;
    spec.default_value = nlohmann::json::object();
    spec.is_key = [](const std::string&) { return true; };
    spec.keys = "any name";
  };
  CHECK(with(table).empty());
  holds(with([&](HyperparameterSpec& spec) {
          table(spec);
          spec.keys = "";
        }),
        "a table without a word on its names");
  holds(with([&](HyperparameterSpec& spec) {
          table(spec);
          spec.default_value = {{"a", "high"}};
        }),
        "another type");
  ApproachInfo twice = fake().approach->info;
  twice.hyperparameters.push_back(twice.hyperparameters[0]);
  holds(lines_of(parameter_complaints(twice)), "a name that another one has");
  const std::string odd = lines_of(info_complaints(
      {.key = "fake", .name = "", .version = 0, .needs = {"repair", "holiday"}, .uses = {"repair", "test"}}));
  for (const char* part : {"in capitals", "no name", "no publication", "below 1", "split holiday",
                           "split test", "needs and uses repair"})
    holds(odd, part);
}

TEST_CASE("controls that promise or refuse wrongly are found") {
  Approach silent = *find_approach("RAND");
  silent.info.key = "DICE";  // no case is of this key: what it offers, nobody has seen it do
  const Approach &imitable = *find_approach("AR"), &not_imitable = *find_approach("RA");
  CHECK(lines_of(control_complaints(silent, imitable)) == "is offered and applies to none of the networks\n");
  CHECK(control_complaints(silent, not_imitable).empty());
  silent.adapt = [](const FixRequest&) { return Refusal{"operator", "no"}; };
  CHECK(control_complaints(silent, not_imitable).size() == 2);
  silent.adapt = [](const FixRequest&) { return std::nullopt; };
  CHECK(lines_of(control_complaints(silent, not_imitable)) == "is not offered, and not refused\n");
  Approach modest = *find_approach("RAND");
  modest.can_imitate = [](const Approach&) { return false; };
  CHECK(lines_of(control_complaints(modest, imitable)) == "works and is not offered\n");
}
