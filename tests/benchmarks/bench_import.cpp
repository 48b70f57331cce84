// Imports models and prints a JSON line each: how far it is from TorchScript, and how far logits, first
// gradients and dropout masks on another device are from those on the CPU; what scripts/gpu-check compares
// devices with.
#include <ATen/ATen.h>

#include <chrono>
#include <cxxopts.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "approaches/train/weight_gradients.hpp"
#include "harness/core/clock.hpp"
#include "harness/core/error.hpp"
#include "harness/model/autograd.hpp"
#include "harness/model/dropout_mask.hpp"
#include "harness/model/fast/input_gradient.hpp"
#include "tests/benchmarks/setting.hpp"

namespace {

using namespace harness;

constexpr uint64_t kSeed = 1;

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
    result.seconds = seconds_since(start);
  }
  return result;
}

double relative(const at::Tensor& expected, const at::Tensor& found) {
  if (expected.numel() == 0) return 0;
  const double scale = std::max(expected.abs().max().item<double>(), 1e-30);
  return (expected - found).abs().max().item<double>() / scale;
}

// The first gradients that approaches and attacks ask for, by who asks.
std::map<std::string, at::Tensor> gradients_of(const Network& network, const at::Tensor& x) {
  std::map<std::string, at::Tensor> found;
  const at::Tensor there = x.to(network.device());
  const InputGradient::Seed seed = [](const at::Tensor& values) { return values.softmax(1); };
  try {
    found["attack"] = InputGradient(network, InputGradient::Of::logits)(there, seed).to(at::kCPU);
  } catch (const c10::Error&) {  // a black box without a derivative, on every device
    if (network.importable()) throw;
  }
  if (!network.importable()) return found;
  const std::vector<ParameterId> ids = train::trainable_parameters(network);
  if (ids.empty()) return found;
  const train::FlatWeights weights(network, ids);
  train::WeightGradients gradients(network, weights, 1);
  gradients.backward(gradients.forward(there).softmax(1), {{{}, 0}});
  found["weights"] = gradients.sum(0).to(at::kCPU);
  if (!network.report().training_limitation.empty()) return found;
  const at::AutoGradMode record(true);
  Network copy = network.fork();
  copy.require_grad(true);
  std::vector<at::Tensor> wanted;
  for (const ParameterId id : ids) wanted.push_back(copy.parameters()[id].value);
  const at::Tensor loss = copy.training_logits(there, kSeed).logsumexp(1).sum();
  found["training"] = weights.join(grad({loss}, wanted)).detach().to(at::kCPU);
  return found;
}

nlohmann::json compare(Network network, const at::Tensor& x, at::Device device) {
  const Logits cpu = logits_of(network, x);
  const auto gradients = gradients_of(network, x);
  network.to(device);
  const Logits other = logits_of(network, x);
  nlohmann::json differences = nlohmann::json::object();
  const auto others = gradients_of(network, x);
  if (gradients.size() != others.size()) throw std::runtime_error("a gradient that only one device has");
  for (const auto& [name, value] : gradients) differences[name] = relative(value, others.at(name));
  const ImportReport& report = network.report();
  return {{"importable", report.importable},
          {"unknown_operator", report.unknown_operator},
          {"nodes", report.importable ? network.nodes().size() : 0},
          {"import_difference", report.max_rel_difference},
          {"logits_difference", relative(cpu.value, other.value)},
          {"gradient_differences", differences},
          {"other_classes", cpu.value.argmax(1).ne(other.value.argmax(1)).sum().item<int64_t>()},
          {"images", x.size(0)},
          {"seconds_cpu", cpu.seconds},
          {"seconds_device", other.seconds}};
}

// Elements of dropout masks whose bits differ between the devices.
int64_t mask_differences(at::Device device) {
  int64_t different = 0;
  for (const double keep : {0.2, 0.5, 0.7}) {
    const at::TensorOptions options(at::kFloat);
    const at::Tensor here = dropout_mask({257, 1031}, keep, kSeed, options),
                     there = dropout_mask({257, 1031}, keep, kSeed, options.device(device));
    different += here.ne(there.to(at::kCPU)).sum().item<int64_t>();
  }
  return different;
}

int run(int argc, char** argv) {
  cxxopts::Options options("bench_import", "models on two devices; a JSON line each on standard output");
  auto add = options.add_options();
  add("model", "TorchScript files", cxxopts::value<std::vector<std::string>>());
  add("shape", "N,C,H,W", cxxopts::value<std::vector<int64_t>>());
  add("threads", "0: as the machine has", cxxopts::value<int>()->default_value("0"));
  add("device", "cpu or cuda", cxxopts::value<std::string>()->default_value("cpu"));
  options.parse_positional({"model"});
  const auto given = options.parse(argc, argv);
  const at::Device device = set_up(given["device"].as<std::string>(), given["threads"].as<int>());

  at::manual_seed(1);
  const at::Tensor x = at::rand(given["shape"].as<std::vector<int64_t>>());
  const int64_t masks = mask_differences(device);
  for (const std::string& file : given["model"].as<std::vector<std::string>>()) {
    nlohmann::json line;
    try {
      Network network = Network::load(file, x.narrow(0, 0, std::min<int64_t>(x.size(0), 4)));
      line = compare(std::move(network), x, device);
    } catch (const UserError& error) {
      line = {{"refused", error.what()}};
    } catch (const std::exception& error) {
      line = {{"error", error.what()}};
    }
    line["model"] = file;
    line["mask_differences"] = masks;
    std::cout << line.dump() << std::endl;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmark(run, argc, argv);
}
