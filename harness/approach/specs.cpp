#include "harness/approach/specs.hpp"

#include <cmath>
#include <utility>

namespace harness {

HyperparameterSpec number_spec(const std::string& name, double value, const std::string& meaning,
                               const std::string& source, double min_value, double maximum) {
  HyperparameterSpec spec{.name = name,
                          .default_value = value,
                          .meaning = meaning,
                          .unit = "number",
                          .source = source,
                          .minimum = min_value};
  if (std::isfinite(maximum)) spec.maximum = maximum;
  return spec;
}

HyperparameterSpec integer_spec(const std::string& name, int64_t value, const std::string& meaning,
                                const std::string& unit, const std::string& source, double min_value) {
  return {.name = name,
          .type = HyperparameterType::integer,
          .default_value = value,
          .meaning = meaning,
          .unit = unit,
          .source = source,
          .minimum = min_value};
}

HyperparameterSpec boolean_spec(const std::string& name, bool value, const std::string& meaning,
                                const std::string& source) {
  return {.name = name,
          .type = HyperparameterType::boolean,
          .default_value = value,
          .meaning = meaning,
          .unit = "yes or no",
          .source = source};
}

HyperparameterSpec choice_spec(const std::string& name, const std::string& value, const std::string& meaning,
                               const std::string& source, std::vector<std::string> choices) {
  return {.name = name,
          .type = HyperparameterType::text,
          .default_value = value,
          .meaning = meaning,
          .unit = "word",
          .source = source,
          .choices = std::move(choices)};
}

HyperparameterSpec table_spec(const std::string& name, const std::string& meaning, const std::string& unit,
                              const std::string& source, std::function<bool(const std::string&)> is_key,
                              const std::string& keys, double min_value) {
  return {.name = name,
          .type = HyperparameterType::table,
          .default_value = nlohmann::json::object(),
          .meaning = meaning,
          .unit = unit,
          .source = source,
          .minimum = min_value,
          .is_key = std::move(is_key),
          .keys = keys};
}

HyperparameterSpec in_unit(const std::string& unit, HyperparameterSpec spec) {
  spec.unit = unit;
  return spec;
}

}  // namespace harness
