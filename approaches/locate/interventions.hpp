#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "approaches/locate/unit_values.hpp"

namespace harness::locate {

// What forcing single units of a dense layer's input does to the faults (approaches/docs/CARE.md, Formulas).
// A unit is changed for this layer alone, as a column of its kernel would be; other readers keep its value.
struct UnitEffects {
  at::Tensor low, high;  // float32 (units), CPU: range of each unit over all inputs
  at::Tensor effects;  // float64 (units, values), CPU: mean over the negatives of 1 - p(label), with the unit
                       // forced to that value of low .. high
};

struct InterventionSettings {
  int64_t values = 4;   // a unit, equally spaced, both ends of its range included; at least 2
  int64_t batch = 250;  // negatives at once
  std::function<bool(double done)> go_on = nullptr;  // false: leave at once
};

// One entry for each layer of `inputs` (dense ones); nothing when it was left. There must be negatives. No
// layer before the examined one is run.
std::vector<UnitEffects> intervention_effects(const UnitValues& inputs, const InterventionSettings& settings);

// float64 (units): "range" = largest less least effect, "mean_abs_dev" = mean distance of the effects from
// their mean. Units that are the same for all inputs score 0.
at::Tensor unit_scores(const UnitEffects& unit, const std::string& score);

}  // namespace harness::locate
