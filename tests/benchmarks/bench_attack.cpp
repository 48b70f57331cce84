// Attacks inputs given as raw files and prints success flags and seconds as JSON on standard output; what
// tests/dev/foolbox_compare.py and scripts/bench compare with foolbox.
#include <ATen/ATen.h>

#include <chrono>
#include <cxxopts.hpp>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "harness/core/error.hpp"
#include "harness/measure/memory.hpp"
#include "harness/measure/pgd.hpp"
#include "tests/benchmarks/setting.hpp"

namespace {

using namespace harness;

// Values of a raw little-endian file.
at::Tensor read_raw(const std::string& file, const std::vector<int64_t>& shape, at::ScalarType type) {
  at::Tensor result = at::empty(shape, type);
  std::ifstream in(file, std::ios::binary);
  const auto bytes = static_cast<std::streamsize>(result.nbytes());
  if (!in.read(static_cast<char*>(result.mutable_data_ptr()), bytes) || in.peek() != EOF) {
    throw UserError(Problem{file, "", "another size or nothing", std::to_string(bytes) + " bytes", ""});
  }
  return result;
}

std::string digits(const std::vector<uint8_t>& flags) {
  std::string text;
  for (uint8_t flag : flags) text += flag ? '1' : '0';
  return text;
}

int run(int argc, char** argv) {
  cxxopts::Options options("bench_attack", "PGD on raw inputs; JSON on standard output");
  auto add = options.add_options();
  add("model", "TorchScript file", cxxopts::value<std::string>());
  add("inputs", "float32 values", cxxopts::value<std::string>());
  add("labels", "int64 values", cxxopts::value<std::string>());
  add("shape", "N,C,H,W", cxxopts::value<std::vector<int64_t>>());
  add("epsilon", "", cxxopts::value<double>()->default_value("0.15"));
  add("low", "", cxxopts::value<double>()->default_value("0"));
  add("high", "", cxxopts::value<double>()->default_value("1"));
  add("steps", "", cxxopts::value<int64_t>()->default_value("40"));
  add("seed", "", cxxopts::value<uint64_t>()->default_value("1"));
  add("piece", "images per piece, 0: as the harness chooses", cxxopts::value<int64_t>()->default_value("0"));
  add("threads", "0: as the machine has", cxxopts::value<int>()->default_value("0"));
  add("repeat", "", cxxopts::value<int>()->default_value("1"));
  add("device", "cpu or cuda", cxxopts::value<std::string>()->default_value("cpu"));
  add("no-start", "no random start");
  add("logits", "cross-entropy of the logits");
  add("margin", "margin loss");
  const auto given = options.parse(argc, argv);

  const auto shape = given["shape"].as<std::vector<int64_t>>();
  const at::Tensor x = read_raw(given["inputs"].as<std::string>(), shape, at::kFloat);
  const at::Tensor labels = read_raw(given["labels"].as<std::string>(), {shape.at(0)}, at::kLong);
  const at::Device device = set_up(given["device"].as<std::string>(), given["threads"].as<int>());
  Network network =
      Network::load(given["model"].as<std::string>(), x.narrow(0, 0, std::min<int64_t>(shape[0], 4)));
  network.to(device);

  PgdOptions pgd;
  pgd.epsilon = given["epsilon"].as<double>();
  pgd.low = given["low"].as<double>();
  pgd.high = given["high"].as<double>();
  pgd.steps = given["steps"].as<int64_t>();
  pgd.seed = given["seed"].as<uint64_t>();
  pgd.piece = given["piece"].as<int64_t>();
  pgd.random_start = given.count("no-start") == 0;
  pgd.on_logits = given.count("logits") > 0;
  if (given.count("margin") > 0) pgd.loss = AttackLoss::margin;
  std::vector<int64_t> images(static_cast<size_t>(shape[0]));
  std::iota(images.begin(), images.end(), 0);

  nlohmann::json result = {{"threads", at::get_num_threads()},
                           {"piece", pgd.piece > 0 ? pgd.piece : preferred_piece(network)}};
  for (int round = 0; round < given["repeat"].as<int>(); ++round) {
    const auto start = std::chrono::steady_clock::now();
    const PgdResult flags = attack(network, x, labels, images, pgd);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    result["seconds"].push_back(seconds.count());
    result["success"] = digits(flags.success);
    result["zero_gradient"] = digits(flags.zero_gradient);
  }
  std::cout << result.dump() << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  harness::keep_memory();
  return run_benchmark(run, argc, argv);
}
