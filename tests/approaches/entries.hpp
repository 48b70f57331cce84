#pragma once

#include "harness/approach/approach.hpp"

namespace harness::testing {

// An approach, and the one it imitates where it is a control; on the fixtures, with little work to do.
struct Entry {
  std::string key, shadow;
  std::string text() const { return shadow.empty() ? key : key + ":" + shadow; }
  // A fix on the tiny data, with parameters that make it short and a made-up history of training.
  FixContext::Setup setup(const Network& network) const;
  // What adapt() says of the network, for data with faults of every kind.
  std::optional<Refusal> refusal(const Network& network) const;
};

// All that are registered, each control once for every approach that it can imitate.
std::vector<Entry> every_entry();

// The first network of the fixtures that it can be applied to; null where there is none.
const Network* network_for(const Entry& entry);

// The parameters that make an approach short: chosen for it, or brief().
nlohmann::json little_work(const std::string& key);
// What makes any search or training short, by the names that parameters have.
nlohmann::json brief(const ApproachInfo& info, int64_t steps);

// The model before a made-up last epoch, and the model.
std::vector<std::map<std::string, at::Tensor>> history_of(const Network& network);

}  // namespace harness::testing
