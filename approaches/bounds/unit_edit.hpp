#pragma once

#include <set>

#include "approaches/bounds/neuron_site.hpp"
#include "approaches/bounds/unit_moves.hpp"
#include "harness/core/random.hpp"

namespace harness::bounds {

// A unit of a site as VeRe fits it (approaches/docs/VERE.md, Formulas): scale * activation(row . x + bias) +
// shift. At check layer 0 there is no row: scale * x + shift.
struct Unit {
  at::Tensor row;  // float64 (F), CPU; empty at check layer 0
  double bias = 0, scale = 1, shift = 0;
};
Unit unit_of(const Network& network, const NeuronSite& site, int64_t unit);

struct FitSettings {
  int64_t epochs = 5;
  int64_t batch = 64;
  double learning_rate = 0.01;
};
// Adam on the mean squared distance of the unit's value from low .. high, in float64 on the CPU, in a new
// order of the inputs each epoch. `features`: (N, F) of the site. Biases that the network lacks stay 0.
struct UnitFit {
  Unit unit;
  int64_t steps = 0;
  double first_loss = 0, last_loss = 0;  // over all inputs
};
UnitFit fit_unit(const Network& network, const NeuronSite& site, int64_t unit, const at::Tensor& features,
                 const UnitTargets& targets, const FitSettings& settings, RandomStream& stream);

// Writes row and bias into the site's layer, shift and scale into the next layer's bias and column.
void write_unit(Network& network, const NeuronSite& site, int64_t number, const Unit& unit);

// float64 (N), CPU: the unit's value for `features`, without scale and shift.
at::Tensor unit_values(const Network& network, const NeuronSite& site, int64_t unit,
                       const at::Tensor& features);

// Parameters that edits of the site's units may change, and which of their values edits of `units` do.
std::vector<ParameterId> edited_parameters(const Network& network, const NeuronSite& site);
Touched touched_by_units(const Network& network, const NeuronSite& site, const std::set<int64_t>& units);

}  // namespace harness::bounds
