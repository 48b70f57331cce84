// Imports a model and prints as JSON how far it is from TorchScript, and how far its logits on another device
// are from those on the CPU; what scripts/gpu-check compares devices with.
#include <ATen/ATen.h>

#include <chrono>
#include <cxxopts.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "harness/core/error.hpp"
#include "harness/model/network.hpp"
#include "tests/benchmarks/setting.hpp"

namespace {

using namespace harness;

struct Logits {
  at::Tensor value;
  double seconds = 0;
};

// The second pass is the one that is timed: the first also starts the device's libraries.
Logits logits_of(const Network& network, const at::Tensor& x) {
  Logits result;
  const at::Tensor there = x.to(network.device());
  for (int round = 0; round < 2; ++round) {
    const auto start = std::chrono::steady_clock::now();
    result.value = network.logits(there).to(at::kCPU);
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return result;
}

int run(int argc, char** argv) {
  cxxopts::Options options("bench_import", "import and logits on two devices; JSON on standard output");
  auto add = options.add_options();
  add("model", "TorchScript file", cxxopts::value<std::string>());
  add("shape", "N,C,H,W", cxxopts::value<std::vector<int64_t>>());
  add("threads", "0: as the machine has", cxxopts::value<int>()->default_value("0"));
  add("device", "cpu or cuda", cxxopts::value<std::string>()->default_value("cpu"));
  const auto given = options.parse(argc, argv);
  const at::Device device = set_up(given["device"].as<std::string>(), given["threads"].as<int>());

  at::manual_seed(1);
  const at::Tensor x = at::rand(given["shape"].as<std::vector<int64_t>>());
  Network network =
      Network::load(given["model"].as<std::string>(), x.narrow(0, 0, std::min<int64_t>(x.size(0), 4)));
  const Logits cpu = logits_of(network, x);
  network.to(device);
  const Logits other = logits_of(network, x);
  const double largest = cpu.value.abs().max().item<double>();
  const ImportReport& report = network.report();
  std::cout << nlohmann::json{{"importable", report.importable},
                              {"unknown_operator", report.unknown_operator},
                              {"nodes", report.importable ? network.nodes().size() : 0},
                              {"import_difference", report.max_rel_difference},
                              {"logits_difference",
                               (cpu.value - other.value).abs().max().item<double>() / largest},
                              {"other_classes",
                               cpu.value.argmax(1).ne(other.value.argmax(1)).sum().item<int64_t>()},
                              {"images", x.size(0)},
                              {"seconds_cpu", cpu.seconds},
                              {"seconds_device", other.seconds}}
                   .dump()
            << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
  }
  return 2;
}
