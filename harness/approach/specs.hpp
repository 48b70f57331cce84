#pragma once

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "harness/core/catalog.hpp"

namespace harness {

// Hyperparameters of an approach, one line each. `source` names something that a reader can open: a
// publication with its year, "public code" and its name, or "our choice" with the reason. Values without a
// unit have "number", "yes or no" or "word".
HyperparameterSpec number_spec(const std::string& name, double value, const std::string& meaning,
                               const std::string& source, double min_value,
                               double maximum = std::numeric_limits<double>::infinity());
HyperparameterSpec integer_spec(const std::string& name, int64_t value, const std::string& meaning,
                                const std::string& unit, const std::string& source, double min_value);
HyperparameterSpec boolean_spec(const std::string& name, bool value, const std::string& meaning,
                                const std::string& source);
HyperparameterSpec choice_spec(const std::string& name, const std::string& value, const std::string& meaning,
                               const std::string& source, std::vector<std::string> choices);
// An object from names to numbers of at least `min_value`, by default empty. `is_key` says which names are
// allowed, and `keys` says it in words: "a label such as ...".
HyperparameterSpec table_spec(const std::string& name, const std::string& meaning, const std::string& unit,
                              const std::string& source, std::function<bool(const std::string&)> is_key,
                              const std::string& keys, double min_value);
// The same hyperparameter with another unit.
HyperparameterSpec in_unit(const std::string& unit, HyperparameterSpec spec);

}  // namespace harness
