#include "tests/approaches/entries.hpp"

#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/approaches/headed.hpp"
#include "tests/support.hpp"

namespace harness::testing {
namespace {

const std::map<std::string, nlohmann::json> kSmallest = {
    {"3M", {{"search", "mcts"}, {"depth", 3}, {"proposals", 24}, {"margin", 0.5}}},
    {"AR", {{"negatives", "all"}, {"population", 12}, {"generations", 6}}},
    {"CARE",
     {{"positives", 40},
      {"negatives", 15},
      {"particles", 8},
      {"iterations", 8},
      {"alpha", 0.1},
      {"weighting", "rates"}}},
    {"CT", {{"steps", 12}}},
    {"DTR", {{"types", 3}, {"least_negatives", 2}, {"particles", 8}, {"iterations", 6}}},
    {"GM", {{"sigma", 0.5}, {"rho", 0.05}, {"population", 10}, {"generations", 5}}},
    {"IN",
     {{"probe_epochs", 2},
      {"routing_samples", 6},
      {"routing_steps", 4},
      {"goal_fault_rate", 0},
      {"epochs", 2},
      {"learning_rate", 0.05},
      {"blocks", 2}}},
    {"IR", {{"max_iters", 40}, {"learning_rate", 1e-3}}},
    {"NNR", {{"hard_per_class", 1}}},
    {"NR", {{"reduction_rate", 4.5}, {"positives", 30}, {"particles", 10}, {"iterations", 8}}},
    {"VERE", {{"learning_rate", 0.2}, {"interval_factor", 2}, {"rounds", 3}, {"epochs", 4}}},
};

}  // namespace

nlohmann::json brief(const ApproachInfo& info, int64_t steps) {
  const std::map<std::string, int64_t> small = {
      {"generations", 3},   {"iterations", 3},  {"population", 8},     {"particles", 6}, {"proposals", 6},
      {"rounds", 2},        {"steps", steps},   {"max_iters", steps},  {"epochs", 2},    {"probe_epochs", 2},
      {"routing_steps", 3}, {"candidates", 20}, {"least_negatives", 2}};
  nlohmann::json parameters = nlohmann::json::object();
  for (const HyperparameterSpec& one : info.hyperparameters) {
    const auto found = small.find(one.name);
    if (found != small.end() && one.type == HyperparameterType::integer) parameters[one.name] = found->second;
  }
  return parameters;
}

nlohmann::json little_work(const std::string& key) {
  const auto small = kSmallest.find(key);
  return small == kSmallest.end() ? brief(find_approach(key)->info, 6) : small->second;
}

std::vector<std::map<std::string, at::Tensor>> history_of(const Network& network) {
  RandomStream stream(17);
  std::vector<std::map<std::string, at::Tensor>> history(2);
  for (const Parameter& parameter : network.parameters()) {
    history[0][parameter.name] = history[1][parameter.name] = parameter.value.clone();
    if (!parameter.value.is_floating_point()) continue;
    const double size = parameter.name.starts_with("fc") ? 0.25 : 0.01;
    std::vector<float> moves(static_cast<size_t>(parameter.value.numel()));
    for (float& move : moves) move = static_cast<float>(size * stream.normal());
    history[0][parameter.name] = parameter.value + at::tensor(moves).view(parameter.value.sizes());
  }
  return history;
}

FixContext::Setup Entry::setup(const Network& network) const {
  FixContext::Setup made = setup_for(key, little_work(shadow.empty() ? key : shadow), shadow);
  made.history = history_of(network);
  return made;
}

std::optional<Refusal> Entry::refusal(const Network& network) const {
  const FixContext::Setup made = setup(network);
  return find_approach(key)->adapt({.network = &network,
                                    .data = &tiny_data(),
                                    .hyperparameters = made.hyperparameters,
                                    .shadow = shadow,
                                    .training = made.training,
                                    .history = made.history,
                                    .repair_faults = 20,
                                    .repair_correct = 100,
                                    .repair_error_types = std::vector<int64_t>(8, 6)});
}

std::vector<Entry> every_entry() {
  std::vector<Entry> entries;
  for (const ApproachInfo& info : approach_catalog()) {
    if (!info.shadows || info.alone) entries.push_back({info.key, ""});
    for (const std::string& other : info.imitates) entries.push_back({info.key, other});
  }
  return entries;
}

const Network* network_for(const Entry& entry) {
  for (const Network* network : {&tiny_network(), &headed_network(), &branched_network()}) {
    if (!entry.refusal(*network)) return network;
  }
  return nullptr;
}

}  // namespace harness::testing
