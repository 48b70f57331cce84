#pragma once

#include <limits>
#include <optional>
#include <span>

#include "approaches/last_layer.hpp"
#include "approaches/lp/minimal_change.hpp"

namespace harness {

// Changes of the kernels of the last dense layer and of the hidden one before it (float64, CPU; undefined:
// none), and the programs that they come from.
struct Changes {
  at::Tensor head, hidden;
  TargetLayer head_layer, hidden_layer;
  double cost = std::numeric_limits<double>::infinity();
  double margin = 0, least_margin = 0;  // demanded; found on the network
  int64_t points = 0, doublings = 0, rows = 0, rounds = 0;
  lp::Outcome outcome = lp::Outcome::doubtful;  // of the last program; `optimal`: there is a change
  std::string text = {};                        // why, unless optimal

  // The network with them, and what they touch.
  FixResult on(const Network& original) const;
};

// The least changes that give some faults of the repair split their label (approaches/docs/3M.md, Formulas
// and Steps in this project), by the hyperparameters of 3M. Counts iterations in the log; programs and passes
// end at context.stop(), with the outcome `stopped` and without having counted.
class FaultPrograms {
 public:
  // `view`: of the original on the repair split; `faults`: positions in it. All must outlive this.
  FaultPrograms(const Network& original, FixContext& context, const HeadView& view,
                std::span<const int64_t> faults);

  // Of the last layer alone. What float32 has spoilt is solved again with twice the margin.
  Changes solve();
  // All faults are right on the network itself, in float32. Where a stop keeps it from being known, the
  // outcome becomes `stopped`. Sets least_margin.
  bool is_verified(Changes& changes) const;

  // Lets propose() share changes with `hidden`. Returns how many of its units proposals move.
  int64_t share_with(const TargetLayer& hidden, int64_t batch);
  double step() const { return step_; }  // of one move, in the unit of the hidden layer's values
  // Of both layers, for moves (faults, units): the units shall give what they give now and `step` for each
  // move. The cost is infinite where a program has no answer or float32 spoils it.
  Changes propose(const std::vector<int64_t>& moves, double margin);

  // From now on nothing is counted, and no stop ends anything.
  void ignore_stops() { counting_ = stoppable_ = false; }

 private:
  Changes change_head(const at::Tensor& phi, double margin);
  bool keeps_faults_right(const Changes& changes) const;
  lp::Limits limits() const;
  Stop stop() const { return stoppable_ ? context_.stop() : Stop(); }
  void count(const lp::MinimalChange& found);
  const at::Tensor& kernel(const TargetLayer& layer) const {
    return original_.parameters()[static_cast<size_t>(layer.weight)].value;
  }

  const Network& original_;
  FixContext& context_;
  const Hyperparameters& hyper_;
  const HeadView& view_;
  const TargetLayer head_;
  const lp::Norm norm_;
  at::Tensor inputs_, labels_, phi_;  // of the faults; phi: float64 (faults, features)
  std::optional<TargetLayer> hidden_;
  Cut cut_;                                    // before the hidden layer
  std::vector<std::vector<at::Tensor>> live_;  // for each batch of inputs_, what the cut gives
  at::Tensor below_,
      before_;  // float64 (faults, features): what the hidden layer reads, and gives before its ReLU
  std::vector<int64_t> units_;  // of the hidden layer that proposals move
  double step_ = 0;
  bool counting_ = true, stoppable_ = true;
};

}  // namespace harness
