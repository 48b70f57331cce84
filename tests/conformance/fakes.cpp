#include "tests/conformance/fakes.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <cstdio>
#include <iostream>
#include <list>
#include <set>

#include "tests/approaches/entries.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/conformance/situations.hpp"
#include "tests/support.hpp"

namespace harness::testing {
namespace {

const std::string kWeight = "fc2.weight";

const std::set<std::string> kFaults = {"",
                                       "asks first",
                                       "blames",
                                       "busy",
                                       "changes the history",
                                       "changes the original",
                                       "changes threads",
                                       "complains",
                                       "counts below zero",
                                       "counts the splits",
                                       "deaf",
                                       "declares another weight",
                                       "declares too many",
                                       "draws elsewhere",
                                       "draws nothing",
                                       "fails oddly",
                                       "forgets a counter",
                                       "forgets a weight",
                                       "greedy",
                                       "hides a change",
                                       "ignores its limit",
                                       "keeps no checkpoint",
                                       "looks at the test split",
                                       "more for less",
                                       "moves a buffer",
                                       "overshoots its progress",
                                       "prints",
                                       "refuses late",
                                       "refuses oddly",
                                       "refuses slowly",
                                       "refuses without a word",
                                       "remembers",
                                       "settles early",
                                       "sick",
                                       "steps too far",
                                       "throws",
                                       "unclocked"};

void work_for(double seconds) {
  const double end = processor_seconds() + seconds;
  while (processor_seconds() < end) {
  }
}

FixResult failure(const std::string& code, const std::string& text) {
  return {.network = std::nullopt, .failure = {code, text}, .touched = {}, .note = ""};
}

// The data set that a split is of: no approach gets at it.
const Dataset& data_of(const Split& repair) {
  for (const Dataset* data : {&tiny_data(), &data_with("poisoned"), &data_with("no_test")}) {
    if (&data->split("repair") == &repair) return *data;
  }
  throw std::runtime_error("a split of no known data");
}

class Fake {
 public:
  Fake(std::string fault, const Network& original, FixContext& context)
      : fault_(std::move(fault)), original_(original), context_(context) {}

  FixResult run() {
    if (is("fails oddly")) return failure("bad_luck", "it was not to be");
    if (is("refuses late")) {
      context_.progress(0.5, "search");
      return failure("no_faults", "nothing is misclassified");
    }
    if (is("asks first") && context_.stop().requested()) return failure("timeout", "stopped at once");
    load();
    meddle();
    while (step_ < steps()) {
      if (context_.stop().requested()) return stop();
      context_.progress(static_cast<double>(step_ + (is("overshoots its progress") ? 2 : 0)) / 3, "search");
      values_.push_back(drawn());
      ++step_;
      count();
      if (context_.checkpoint_due()) save();
    }
    return result();
  }

 private:
  bool is(const std::string& fault) const { return fault_ == fault; }
  int64_t steps() const { return is("ignores its limit") ? 3 : context_.hyperparameters().integer("steps"); }

  void count() {
    auto& counters = context_.log().counters;
    counters["evaluations"] += is("more for less") ? 12 / (steps() * steps()) : 1;
    if (is("steps too far")) counters["optimiser_steps"] += 2;
    if (is("counts below zero")) counters["luck"] = -1;
  }

  double drawn() {
    if (is("draws nothing")) return static_cast<double>(step_);
    if (is("draws elsewhere")) return at::rand({1}).item<double>();
    static double memory = 0;
    if (is("remembers")) return ++memory;
    return context_.stream("step " + std::to_string(step_)).normal();
  }

  void load() {
    const auto& saved = context_.load_checkpoint();
    if (!saved) return;
    step_ = saved->at("step").item<int64_t>();
    const at::Tensor values = saved->at("values");
    values_.assign(values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel());
    if (!is("forgets a counter")) context_.log().counters["evaluations"] = step_;
    if (is("forgets a weight")) values_.back() = 0;
  }

  void save() {
    if (is("keeps no checkpoint")) return;
    context_.save_checkpoint(
        {{"step", at::scalar_tensor(step_, at::kLong)}, {"values", at::tensor(values_, at::kDouble)}});
  }

  // What nobody may do, at the beginning of a fix.
  void meddle() {
    if (is("prints")) std::cout << "one step more\n";
    if (is("complains")) std::fputs("careful\n", stderr);
    if (is("changes the original")) at::Tensor(original_.parameters()[0].value).add_(1);
    if (is("changes the history")) at::Tensor(context_.history()[0].begin()->second).add_(1);
    if (is("changes threads")) at::set_num_threads(2);
    if (is("unclocked")) {  // a clock that outlives its fix
      static FixLog* log = nullptr;
      log = &context_.log();
      log->running.emplace("search", std::chrono::steady_clock::now());
    }
    if (is("looks at the test split") || is("counts the splits")) {
      const Dataset& data = data_of(context_.split("repair"));
      values_.push_back(is("counts the splits") ? static_cast<double>(data.split_names().size())
                        : data.has("test")      ? data.split("test").inputs(0, 1).sum().item<double>()
                                                : 0);
    }
  }

  FixResult stop() {
    if (is("throws")) throw std::runtime_error("stopped");
    if (is("blames")) return failure("no_fix", "there was no time");
    for (int k = 0; k < 50 && is("deaf"); ++k) context_.stop().requested();
    if (is("busy")) work_for(0.6);
    if (is("greedy")) at::ones({50'000'000});
    if (step_ == 0) return failure("timeout", "stopped before the first step");
    save();
    return result();
  }

  FixResult result() {
    FixResult made;
    made.network = original_.fork();
    const ParameterId id = made.network->find_parameter(kWeight);
    at::Tensor value = made.network->parameters()[static_cast<size_t>(id)].value.clone();
    std::vector<int64_t> places;
    for (size_t k = 0; k < values_.size(); ++k) {
      const auto place = static_cast<int64_t>(k);
      value.view(-1)[place] = values_[k];
      places.push_back(place);
    }
    if (is("sick") && context_.stop().seen()) value.view(-1)[0] = NAN;
    if (is("hides a change")) value.view(-1)[17] += 1;
    made.network->set_parameter(id, value);
    if (is("declares too many")) places.push_back(value.numel());
    made.touched.weights[kWeight] = places;
    if (is("declares another weight")) made.touched.weights["fc9.weight"] = {0};
    if (is("moves a buffer")) move_another(*made.network);
    return made;
  }

  void move_another(Network& network) const {
    const ParameterId id = network.find_parameter("conv1.bias");
    network.set_parameter(id, network.parameters()[static_cast<size_t>(id)].value + 1);
  }

  const std::string fault_;
  const Network& original_;
  FixContext& context_;
  int64_t step_ = 0;
  std::vector<double> values_;
};

std::optional<Refusal> adapt(const std::string& fault, const FixRequest& request) {
  if (!request.network->importable()) return Refusal{"operator", request.network->report().unknown_operator};
  if (fault == "refuses oddly") return Refusal{"moonlight", "there is none"};
  if (fault == "refuses without a word") return Refusal{"structure", ""};
  if (fault == "refuses slowly") work_for(1.1);
  return std::nullopt;
}

}  // namespace

Case fake(const std::string& fault) {
  if (kFaults.count(fault) == 0) throw std::runtime_error("no such fault: " + fault);
  static std::list<Approach> made;  // cases point into it
  made.push_back({.info = {.key = "FAKE",
                           .name = "Fake",
                           .publication = "this project",
                           .needs = {"repair"},
                           .hyperparameters = {{.name = "steps",
                                                .type = HyperparameterType::integer,
                                                .default_value = 3,
                                                .meaning = "weights that are drawn",
                                                .unit = "steps",
                                                .source = "our choice: few",
                                                .minimum = 1}}},
                  .adapt = [fault](const FixRequest& request) { return adapt(fault, request); },
                  .fix = [fault](const Network& original,
                                 FixContext& context) { return Fake(fault, original, context).run(); }});
  if (fault == "settles early") {  // returns what it has of a first population of three
    HyperparameterSpec population = made.back().info.hyperparameters[0];
    population.name = "population";
    made.back().info.hyperparameters.push_back(population);
  }
  // Fixtures are made once for all tests: what a fake spoils is its own.
  static std::list<Network> networks;
  networks.push_back(tiny_network().fork());
  const Approach* approach = &made.back();
  const Network* network = &networks.back();
  return {"FAKE " + fault, approach, network, [approach, network] {
            FixContext::Setup setup;
            setup.info = &approach->info;
            setup.data = &tiny_data();
            setup.hyperparameters = hyperparameters_of(approach->info, {});
            setup.history = history_of(*network);
            setup.seed = 11;
            setup.batch = 50;
            return setup;
          }};
}

}  // namespace harness::testing
