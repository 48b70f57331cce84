#include <algorithm>

#include "harness/approach/approach.hpp"
#include "harness/core/error.hpp"

namespace harness {
namespace {

// Static inside a function, because the static objects of source files are made in no given order.
std::vector<Approach>& registered() {
  static std::vector<Approach> list;
  return list;
}

bool by_key(const Approach& approach, const std::string& key) {
  return approach.info.key < key;
}

}  // namespace

bool register_approach(Approach approach) {
  const ApproachInfo& info = approach.info;
  if (info.key.empty() || !approach.adapt || !approach.fix) {
    interface_misuse("approach \"" + info.key + "\" is registered without a key, adapt or fix");
  }
  if (info.shadows != static_cast<bool>(approach.can_imitate)) {
    interface_misuse("approach " + info.key + " has to say whether and what it imitates");
  }
  for (const auto* names : {&info.needs, &info.uses}) {
    if (std::find(names->begin(), names->end(), "test") != names->end()) {
      interface_misuse("approach " + info.key + " declares the test split, which no approach may see");
    }
  }
  std::vector<Approach>& list = registered();
  const auto place = std::lower_bound(list.begin(), list.end(), info.key, by_key);
  if (place != list.end() && place->info.key == info.key) {
    interface_misuse("two approaches are registered as " + info.key);
  }
  list.insert(place, std::move(approach));
  return true;
}

const std::vector<Approach>& approaches() {
  return registered();
}

const Approach* find_approach(const std::string& key) {
  const std::vector<Approach>& list = registered();
  const auto place = std::lower_bound(list.begin(), list.end(), key, by_key);
  return place != list.end() && place->info.key == key ? &*place : nullptr;
}

Catalog approach_catalog() {
  Catalog catalog;
  for (const Approach& approach : registered()) {
    catalog.push_back(approach.info);
    if (!approach.can_imitate) continue;
    for (const Approach& other : registered()) {
      if (!other.info.shadows && approach.can_imitate(other)) {
        catalog.back().imitates.push_back(other.info.key);
      }
    }
  }
  return catalog;
}

Hyperparameters hyperparameters_of(const ApproachInfo& info, const Hyperparameters& given) {
  nlohmann::json values = nlohmann::json::object();
  for (const HyperparameterSpec& spec : info.hyperparameters) {
    const auto entry = given.values().find(spec.name);
    const bool is_given = entry != given.values().end() && (spec.nullable || !entry->is_null());
    values[spec.name] = is_given ? *entry : spec.default_value;
  }
  return Hyperparameters(std::move(values));
}

}  // namespace harness
