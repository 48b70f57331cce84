#pragma once

#include <limits>
#include <string>
#include <vector>

#include "harness/core/catalog.hpp"

namespace harness {

// Parameters of an approach, one line each. `source` is something that a reader can open: a publication with
// its year, "public code" and its name, "our choice" with the reason. What counts nothing has the unit
// "number", "yes or no" or "word".
ParameterSpec number_spec(const std::string& name, double value, const std::string& meaning,
                          const std::string& source, double least,
                          double most = std::numeric_limits<double>::infinity());
ParameterSpec integer_spec(const std::string& name, int64_t value, const std::string& meaning,
                           const std::string& unit, const std::string& source, double least);
ParameterSpec boolean_spec(const std::string& name, bool value, const std::string& meaning,
                           const std::string& source);
ParameterSpec choice_spec(const std::string& name, const std::string& value, const std::string& meaning,
                          const std::string& source, std::vector<std::string> choices);
// The same parameter, measured in something.
ParameterSpec in_unit(const std::string& unit, ParameterSpec spec);

}  // namespace harness
