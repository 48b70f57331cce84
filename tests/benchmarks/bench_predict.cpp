// Predicts the first images of a test split in the inference form and as the network itself; JSON on standard
// output: seconds of each round, and how many classes differ.
#include <ATen/ATen.h>

#include <chrono>
#include <cxxopts.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "harness/core/clock.hpp"
#include "harness/core/error.hpp"
#include "harness/data/dataset.hpp"
#include "harness/measure/predict.hpp"
#include "harness/model/fast/inference.hpp"
#include "tests/benchmarks/setting.hpp"

namespace {

using namespace harness;

int run(int argc, char** argv) {
  cxxopts::Options options("bench_predict", "prediction of a test split; JSON on standard output");
  auto add = options.add_options();
  add("model", "TorchScript file", cxxopts::value<std::string>());
  add("data", "HDF5 file", cxxopts::value<std::string>());
  add("images", "of the test split", cxxopts::value<int64_t>()->default_value("500"));
  add("batch", "0: follows from the model", cxxopts::value<int64_t>()->default_value("0"));
  add("rounds", "", cxxopts::value<int>()->default_value("1"));
  add("threads", "0: as the machine has", cxxopts::value<int>()->default_value("0"));
  const auto given = options.parse(argc, argv);
  set_up("cpu", given["threads"].as<int>());

  const Dataset data = Dataset::open(given["data"].as<std::string>());
  const Split& test = data.split("test");
  const Network network = Network::load(given["model"].as<std::string>(), test.inputs(0, 4));
  const int64_t images = std::min(given["images"].as<int64_t>(), test.size());
  const int64_t wanted = given["batch"].as<int64_t>();
  const int64_t batch = wanted > 0 ? wanted : preferred_batch(network);

  std::vector<int32_t> plain;
  {
    const at::NoGradGuard no_grad;
    for (int64_t begin = 0; begin < images; begin += batch) {
      const at::Tensor classes =
          network.classify(test.inputs(begin, std::min(begin + batch, images))).to(at::kInt);
      plain.insert(plain.end(), classes.data_ptr<int32_t>(), classes.data_ptr<int32_t>() + classes.numel());
    }
  }
  std::vector<double> seconds;
  int64_t other_classes = 0;
  for (int round = 0; round < given["rounds"].as<int>(); ++round) {
    const auto start = std::chrono::steady_clock::now();
    const Predictions found = predict(network, test, batch, images);
    seconds.push_back(seconds_since(start));
    other_classes = 0;
    for (size_t i = 0; i < plain.size(); ++i) other_classes += plain[i] != found.classes[i];
  }
  std::cout << nlohmann::json{{"images", images},
                              {"batch", batch},
                              {"fused", InferenceForm(network, batch).fused()},
                              {"seconds", seconds},
                              {"other_classes", other_classes}}
                   .dump()
            << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmark(run, argc, argv);
}
