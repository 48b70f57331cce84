// How fast candidates are judged: the evaluator of approaches/search against writing the weights into the
// network and running it whole, on the first images of a repair split, in turns. One JSON line an edit. With
// --generations a search by differential evolution, too: there a candidate may be left early.
#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cxxopts.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "approaches/locate/faults.hpp"
#include "approaches/search/candidate_evaluator.hpp"
#include "approaches/search/differential_evolution.hpp"
#include "harness/core/clock.hpp"
#include "harness/core/error.hpp"
#include "harness/model/fast/inference.hpp"
#include "tests/benchmarks/setting.hpp"

namespace {

using namespace harness;

struct Edit {
  std::string name;
  std::vector<WeightRef> weights;
};

// Weights of one layer each: the last, the first dense one, and the convolutions in the middle and in front;
// and of a convolution together with the last layer.
std::vector<Edit> edits(const Network& network, int64_t count, RandomStream& stream) {
  const std::vector<TargetLayer> layers = target_layers(network);
  std::vector<TargetLayer> dense, conv;
  for (const TargetLayer& layer : layers) (layer.convolution ? conv : dense).push_back(layer);
  std::vector<Edit> result;
  const auto add = [&](const std::string& name, const TargetLayer& layer) {
    result.push_back({name + " " + network.nodes()[static_cast<size_t>(layer.node)].name,
                      random_weights(network, {layer}, count, stream)});
  };
  if (!dense.empty()) add("last", dense.back());
  if (dense.size() > 1) add("dense", dense.front());
  if (conv.empty()) return result;
  add("conv", conv.back());
  if (conv.size() > 2) add("conv", conv[conv.size() / 2]);
  if (conv.size() > 1) add("conv", conv.front());
  if (dense.empty()) return result;
  add("conv and last", conv.back());
  const auto more = random_weights(network, {dense.back()}, count, stream);
  result.back().weights.insert(result.back().weights.end(), more.begin(), more.end());
  return result;
}

// Arachne's search with a population of eight, on correct images and one in ten faults.
nlohmann::json searched(const Network& network, const Split& split, const locate::Judgement& judgement,
                        const Edit& edit, int64_t generations, int64_t batch) {
  std::vector<int64_t> wrong;
  for (size_t k = 0; k < judgement.wrong.size(); k += 10) wrong.push_back(judgement.wrong[k]);
  const search::CandidateEvaluator evaluator(
      {.network = network,
       .inputs = {{&split, judgement.correct, false}, {&split, wrong, true}},
       .weights = edit.weights,
       .objective = search::arachne_objective(10, false),
       .batching = batch});
  search::EvolutionSettings settings{.population = 8, .generations = generations, .patience = generations};
  for (const WeightRef& weight : edit.weights) {
    const at::Tensor kernel = network.parameters()[weight.parameter].value.detach().to(at::kCPU, at::kDouble);
    settings.dimensions.push_back({.low = 2 * kernel.min().item<double>(),
                                   .high = 2 * kernel.max().item<double>(),
                                   .mean = kernel.mean().item<double>(),
                                   .deviation = kernel.std().item<double>()});
  }
  int64_t taken = 0, trials = 0;
  double first = 0;
  const auto start = std::chrono::steady_clock::now();
  const search::EvolutionResult found = search::evolve(settings, search::seeded_draws(1, settings.population),
                                                       [&](auto candidates, auto floors, auto fitness) {
                                                         if (trials == settings.population)
                                                           first = seconds_since(start);
                                                         evaluator.evaluate(candidates, floors, fitness);
                                                         for (size_t k = 0; k < fitness.size(); ++k)
                                                           taken += fitness[k] >= floors[k];
                                                         trials += std::ssize(fitness);
                                                       });
  const double all = seconds_since(start);
  const auto evaluations = static_cast<double>(found.state.evaluations);
  return {{"evaluations", found.state.evaluations},
          {"taken", taken},
          {"best", found.best_fitness},
          {"per_second", evaluations / all},
          {"per_second_after_first", (evaluations - 8) / (all - first)}};
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return seconds_since(start);
}

int run(int argc, char** argv) {
  cxxopts::Options options("bench_evaluator", "candidates a second; a JSON line an edit");
  auto add = options.add_options();
  add("model", "TorchScript file", cxxopts::value<std::string>());
  add("data", "HDF5 file", cxxopts::value<std::string>());
  add("images", "of the repair split", cxxopts::value<int64_t>()->default_value("1000"));
  add("weights", "in an edit", cxxopts::value<int64_t>()->default_value("6"));
  add("candidates", "judged in one call", cxxopts::value<int64_t>()->default_value("20"));
  add("generations", "of a search; 0: none", cxxopts::value<int64_t>()->default_value("0"));
  add("only", "edits whose name has this", cxxopts::value<std::string>()->default_value(""));
  add("rounds", "", cxxopts::value<int>()->default_value("5"));
  add("threads", "0: as the machine has", cxxopts::value<int>()->default_value("0"));
  add("device", "cpu or cuda", cxxopts::value<std::string>()->default_value("cpu"));
  const auto given = options.parse(argc, argv);
  const at::Device device = set_up(given["device"].as<std::string>(), given["threads"].as<int>());
  const at::NoGradGuard no_grad;

  const Dataset data = Dataset::open(given["data"].as<std::string>());
  const Split& repair = data.split("repair");
  Network network = Network::load(given["model"].as<std::string>(), repair.inputs(0, 4));
  network.to(device);
  const int64_t batch = preferred_batch(network);
  std::vector<int64_t> positions(static_cast<size_t>(std::min(given["images"].as<int64_t>(), repair.size())));
  for (size_t n = 0; n < positions.size(); ++n) positions[n] = static_cast<int64_t>(n);
  const std::vector<InputSet> sets = {{&repair, positions, false}};
  const search::SearchInputs inputs(network, sets);
  std::vector<at::Tensor> slabs;
  for (const at::Tensor& part : at::arange(inputs.size()).split(batch)) slabs.push_back(inputs.load(part));

  RandomStream stream(7);
  const search::Objective objective = search::arachne_objective(10, false);
  const auto many = static_cast<size_t>(given["candidates"].as<int64_t>());
  const int64_t generations = given["generations"].as<int64_t>();
  locate::Judgement judgement;
  if (generations > 0) {
    at::Tensor classes = at::empty({0}, at::kLong);
    for (const at::Tensor& slab : slabs) classes = at::cat({classes, network.classify(slab).cpu()});
    judgement = locate::judgement_of(repair.labels().slice(0, 0, classes.numel()), classes);
  }
  for (const Edit& edit : edits(network, given["weights"].as<int64_t>(), stream)) {
    if (edit.name.find(given["only"].as<std::string>()) == std::string::npos) continue;
    const search::CandidateEvaluator evaluator({network, sets, edit.weights, objective, batch});
    const size_t size = edit.weights.size();
    const std::vector<float> own = read_weights(network, edit.weights);
    std::vector<double> candidates(many * size), fitness(many);
    for (size_t i = 0; i < candidates.size(); ++i) candidates[i] = own[i % size] + 0.1 * stream.normal();
    Network whole = network.fork();
    const auto write_and_run = [&] {
      apply_edits(whole, edits_of(edit.weights, std::span(candidates).first(size)));
      search::Verdict verdict = inputs.blank();
      int64_t begin = 0;
      for (const at::Tensor& slab : slabs) {
        const at::Tensor numbers = at::arange(begin, begin + slab.size(0));
        search::count(whole.logits(slab), numbers, inputs, objective, verdict);
        begin += slab.size(0);
      }
      return objective.value(verdict);
    };
    std::vector<double> together, single, plain;
    double difference = 0;
    for (int round = 0; round < given["rounds"].as<int>(); ++round) {
      double expected = 0;
      plain.push_back(seconds_of([&] { expected = write_and_run(); }));
      double found = 0;
      single.push_back(seconds_of([&] { found = evaluator.fitness(std::span(candidates).first(size)); }));
      together.push_back(seconds_of([&] { evaluator.evaluate(candidates, fitness); }));
      difference = std::max(difference, std::abs(found - expected) / std::abs(expected));
    }
    const double one = median(single), each = median(together) / static_cast<double>(many);
    nlohmann::json search = nullptr;
    if (generations > 0) search = searched(network, repair, judgement, edit, generations, batch);
    std::cout << nlohmann::json{{"edit", edit.name},
                                {"way", evaluator.strategy()},
                                {"images", inputs.size()},
                                {"whole_per_second", 1 / median(plain)},
                                {"one_per_second", 1 / one},
                                {"many_per_second", 1 / each},
                                {"one_ratio", median(plain) / one},
                                {"many_ratio", median(plain) / each},
                                {"search", search},
                                {"fitness_difference", difference}}
                     .dump()
              << std::endl;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmark(run, argc, argv);
}
