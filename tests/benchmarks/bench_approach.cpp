// Runs one approach with several seeds and prints a JSON line a run: its effect on the test split, its time,
// and what its log says. What acceptance figures and scripts/bench are made from; the harness proper does the
// same with records and tables.
#include <ATen/ATen.h>

#include <chrono>
#include <cxxopts.hpp>
#include <iostream>

#include "approaches/locate/faults.hpp"
#include "harness/approach/approach.hpp"
#include "harness/core/clock.hpp"
#include "harness/core/error.hpp"
#include "tests/benchmarks/setting.hpp"

namespace {

using namespace harness;

struct Flips {
  int64_t repaired = 0, broken = 0;
};

Flips flips(const locate::Judgement& original, const locate::Judgement& fixed) {
  const at::Tensor before = original.predictions == original.labels,
                   after = fixed.predictions == fixed.labels;
  return {(~before & after).sum().item<int64_t>(), (before & ~after).sum().item<int64_t>()};
}

nlohmann::json one_run(const Approach& approach, const Network& original, const Dataset& data,
                       const locate::Judgement& test, FixContext::Setup setup) {
  const uint64_t seed = setup.seed;
  const int64_t batch = setup.batch;
  FixContext context(std::move(setup));
  const auto start = std::chrono::steady_clock::now();
  const FixResult fixed = approach.fix(original, context);
  const double seconds = seconds_since(start);
  nlohmann::json row = {{"seed", seed}, {"seconds", seconds}, {"note", fixed.note}};
  row["phases"] = context.log().phases;
  row["counters"] = context.log().counters;
  row["scalars"] = context.log().scalars;
  if (!fixed.network) {
    row["failure"] = fixed.failure.code + ": " + fixed.failure.text;
    return row;
  }
  const Flips test_flips = flips(test, locate::judge_split(*fixed.network, data.split("test"), batch));
  row["repaired"] = test_flips.repaired;
  row["broken"] = test_flips.broken;
  row["rr"] = 100.0 * static_cast<double>(test_flips.repaired) / static_cast<double>(test.wrong.size());
  row["accuracy_change"] = 100.0 * static_cast<double>(test_flips.repaired - test_flips.broken) /
                           static_cast<double>(test.labels.size(0));
  for (const auto& [name, indices] : fixed.touched.weights) row["touched"][name] = indices;
  return row;
}

int run(int argc, char** argv) {
  cxxopts::Options options("bench_approach", "one approach with several seeds; a JSON line a run");
  auto add = options.add_options();
  add("model", "TorchScript file", cxxopts::value<std::string>());
  add("data", "HDF5 file", cxxopts::value<std::string>());
  add("approach", "key", cxxopts::value<std::string>()->default_value("AR"));
  add("shadow", "key that a control imitates", cxxopts::value<std::string>()->default_value(""));
  add("parameters", "JSON object", cxxopts::value<std::string>()->default_value("{}"));
  add("runs", "", cxxopts::value<uint64_t>()->default_value("10"));
  add("threads", "0: as the machine has", cxxopts::value<int>()->default_value("0"));
  add("device", "cpu or cuda", cxxopts::value<std::string>()->default_value("cpu"));
  const auto given = options.parse(argc, argv);
  const at::Device device = set_up(given["device"].as<std::string>(), given["threads"].as<int>());

  const Dataset data = Dataset::open(given["data"].as<std::string>());
  Network original = Network::load(given["model"].as<std::string>(), data.split("test").inputs(0, 4));
  original.to(device);
  const Approach* approach = find_approach(given["approach"].as<std::string>());
  if (approach == nullptr) throw std::runtime_error("no such approach");
  FixContext::Setup setup;
  setup.info = &approach->info;
  setup.data = &data;
  setup.shadow = given["shadow"].as<std::string>();
  const auto parameters = nlohmann::json::parse(given["parameters"].as<std::string>());
  nlohmann::json values = hyperparameters_of(approach->info, Hyperparameters(parameters)).values();
  values.update(parameters);  // a control is given its shadow's parameters as well
  setup.hyperparameters = Hyperparameters(values);
  const locate::Judgement test = locate::judge_split(original, data.split("test"), setup.batch);
  for (setup.seed = 1; setup.seed <= given["runs"].as<uint64_t>(); ++setup.seed) {
    std::cout << one_run(*approach, original, data, test, setup).dump() << std::endl;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmark(run, argc, argv);
}
