#include "approaches/specs.hpp"

#include <cmath>
#include <utility>

namespace harness {

ParameterSpec number_spec(const std::string& name, double value, const std::string& meaning,
                          const std::string& source, double least, double most) {
  ParameterSpec spec{.name = name,
                     .default_value = value,
                     .meaning = meaning,
                     .unit = "number",
                     .source = source,
                     .minimum = least};
  if (std::isfinite(most)) spec.maximum = most;
  return spec;
}

ParameterSpec integer_spec(const std::string& name, int64_t value, const std::string& meaning,
                           const std::string& unit, const std::string& source, double least) {
  return {.name = name,
          .type = ParameterType::integer,
          .default_value = value,
          .meaning = meaning,
          .unit = unit,
          .source = source,
          .minimum = least};
}

ParameterSpec boolean_spec(const std::string& name, bool value, const std::string& meaning,
                           const std::string& source) {
  return {.name = name,
          .type = ParameterType::boolean,
          .default_value = value,
          .meaning = meaning,
          .unit = "yes or no",
          .source = source};
}

ParameterSpec choice_spec(const std::string& name, const std::string& value, const std::string& meaning,
                          const std::string& source, std::vector<std::string> choices) {
  return {.name = name,
          .type = ParameterType::text,
          .default_value = value,
          .meaning = meaning,
          .unit = "word",
          .source = source,
          .choices = std::move(choices)};
}

ParameterSpec in_unit(const std::string& unit, ParameterSpec spec) {
  spec.unit = unit;
  return spec;
}

}  // namespace harness
