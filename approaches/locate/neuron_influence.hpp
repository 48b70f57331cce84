#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "approaches/search/inputs.hpp"
#include "approaches/weights.hpp"
#include "harness/core/stop.hpp"

namespace harness::locate {

// How the units and weights of a layer are ranked (approaches/docs/GM.md, Formulas).
enum class RankBy {
  unit_knockout,    // units by |lost correct inputs| without them, their weights by |w dL/dw|
  taylor,           // |w dL/dw| alone; units by the same first-order estimate of removing them
  weight_knockout,  // weights by |lost correct inputs| without each, then |w dL/dw|; units as unit_knockout
  magnitude,        // |w|; units by the length of their row
};
// What removing every unit of the layer in turn costs on one input, in passes of that input through the whole
// network: units times the share of all operations that lies behind them. From shapes alone; an operation is
// a multiply-add of a layer or one number of another node's value.
double knockout_passes(const Network& network, const TargetLayer& layer);
// `rank` as in the parameter of that name; "default" is unit_knockout, and taylor for layers with more
// knockout_passes() than `maximum`.
RankBy rank_by(const std::string& rank, const Network& network, const TargetLayer& layer, double maximum);

// What is known of a layer's influence after the first `inputs` of them; it may be saved and continued.
struct InfluenceSums {
  int64_t inputs = 0;
  int64_t correct = 0;         // of the unchanged network
  at::Tensor unit_correct;     // int64 (units): without the unit
  at::Tensor weight_correct;   // int64 (kernel): without the weight
  at::Tensor kernel_gradient;  // float64, shape of the kernel: sum of dCE/dw
  at::Tensor unit_gradient;    // float64 (units): sum of y dCE/dy over inputs and positions of the output y
  void save(std::map<std::string, at::Tensor>& tensors) const;                  // under names "influence.*"
  static InfluenceSums load(const std::map<std::string, at::Tensor>& tensors);  // fresh where absent
};

// Goes on through `inputs` in slabs of `batch`, adding what `by` needs. `stop` is checked between candidates
// (the slab is then not counted), `after_slab` called after each slab; false: stopped.
//
// Removing a unit sets its incoming weights and its bias to zero, so its channel of the output is zero; where
// the layer's only reader is a batch norm, the channel behind that is zeroed instead, because the shift would
// stay. All inputs run to the layer once; a unit's removal masks the cached output.
bool add_influence(const Network& network, const TargetLayer& layer, RankBy by,
                   const search::SearchInputs& inputs, int64_t batch, const Stop& stop,
                   const std::function<void()>& after_slab, InfluenceSums& sums);

// Most influential first; equals by ascending index.
struct LayerRanking {
  std::vector<int64_t> weights;  // flat indices of the kernel, the first `window` of them
  std::vector<int64_t> units;    // all
};
LayerRanking rank_layer(const Network& network, const TargetLayer& layer, RankBy by,
                        const InfluenceSums& sums, int64_t window);

}  // namespace harness::locate
