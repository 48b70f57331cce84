#include "harness/core/catalog.hpp"

#include <algorithm>

#include "harness/core/error.hpp"

namespace harness {

namespace {

const nlohmann::json& value_of(const nlohmann::json& values, const std::string& name) {
  const auto entry = values.find(name);
  if (entry == values.end()) interface_misuse("no parameter is called " + name);
  return *entry;
}

[[noreturn]] void wrong_type(const std::string& name, const char* wanted) {
  interface_misuse("parameter " + name + " is no " + wanted);
}

}  // namespace

bool Hyperparameters::boolean(const std::string& name) const {
  const nlohmann::json& value = value_of(values_, name);
  if (!value.is_boolean()) wrong_type(name, "boolean");
  return value.get<bool>();
}

int64_t Hyperparameters::integer(const std::string& name) const {
  const nlohmann::json& value = value_of(values_, name);
  if (!value.is_number_integer()) wrong_type(name, "integer");
  return value.get<int64_t>();
}

double Hyperparameters::number(const std::string& name) const {
  const nlohmann::json& value = value_of(values_, name);
  if (!value.is_number()) wrong_type(name, "number");
  return value.get<double>();
}

std::string Hyperparameters::text(const std::string& name) const {
  const nlohmann::json& value = value_of(values_, name);
  if (!value.is_string()) wrong_type(name, "text");
  return value.get<std::string>();
}

std::map<std::string, double> Hyperparameters::table(const std::string& name) const {
  const nlohmann::json& value = value_of(values_, name);
  if (!value.is_object()) wrong_type(name, "table");
  std::map<std::string, double> table;
  for (const auto& [key, entry] : value.items()) {
    if (!entry.is_number()) wrong_type(name + "." + key, "number");
    table[key] = entry.get<double>();
  }
  return table;
}

bool Hyperparameters::is_null(const std::string& name) const {
  return value_of(values_, name).is_null();
}

const char* to_text(Level level) {
  switch (level) {
    case Level::model:
      return "model";
    case Level::layer:
      return "layer";
    case Level::neuron:
      return "neuron";
    case Level::control:
      return "control";
    case Level::published:
      return "published";
  }
  interface_misuse("a level outside its enumeration");
}

const char* to_text(Basis basis) {
  switch (basis) {
    case Basis::none:
      return "";
    case Basis::reference_code:
      return "reference code";
    case Basis::publication:
      return "publication";
    case Basis::toolkit_version:
      return "toolkit version";
    case Basis::reconstruction:
      return "reconstruction from abstracts";
    case Basis::adaptation:
      return "adaptation to misclassification";
    case Basis::inferred_identity:
      return "inferred identity";
  }
  interface_misuse("a basis outside its enumeration");
}

const ApproachInfo* find(const Catalog& catalog, const std::string& key) {
  const auto entry =
      std::find_if(catalog.begin(), catalog.end(), [&](const ApproachInfo& info) { return info.key == key; });
  return entry == catalog.end() ? nullptr : &*entry;
}

}  // namespace harness
