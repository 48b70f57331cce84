#include "approaches/lp/minimal_change.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "approaches/lp/watch.hpp"

namespace harness::lp {
namespace {

// How far a demand may be missed by rounding; margins are far above.
constexpr double kMissed = 1e-6;
// A larger change does not count as one (Linf form: t below the inverse).
constexpr double kLargest = 1e8;

// The program over changes D of some weights. For l1: D = P - N, both >= 0, minimise their sum. For linf
// (homogenised: approaches/docs/3M.md, Formulas): with u = D / eps and t = 1 / eps, maximise t over -1 <= u
// <= 1; a demand D.phi >= b becomes u.phi - b t >= 0, and no row is needed to hold |D| below eps.
class ChangeProgram {
 public:
  explicit ChangeProgram(Norm norm)
      : norm_(norm), program_(norm == Norm::linf ? Sense::maximise : Sense::minimise) {
    if (norm_ == Norm::linf) program_.add_column(0, kInfinity, 1);
  }

  int add_weights(int count) {
    const int first = weights_;
    if (norm_ == Norm::linf)
      program_.add_columns(count, -1, 1);
    else
      program_.add_columns(2 * count, 0, kInfinity, 1);
    weights_ += count;
    return first;
  }

  // Demands low <= sum values * D[weights] <= high; each of them may be infinite.
  void demand(const std::vector<int>& weights, const std::vector<double>& values, double low, double high) {
    if (low == high || norm_ == Norm::l1)
      add(weights, values, low, high, low);
    else if (std::isfinite(low))
      add(weights, values, low, kInfinity, low);
    else
      add(weights, values, -kInfinity, high, high);
  }

  // False where there is no acceptable change; `result` then says why.
  bool solve(const Limits& limits, MinimalChange& result) {
    // The dual method, where its start is dual feasible: the slack basis of an l1 program, or an old basis
    // after rows were added.
    const bool dual = norm_ == Norm::l1 || result.rounds > 0;
    const Solution solution = program_.solve(limits, dual ? Method::dual : Method::primal);
    ++result.rounds;
    result.rows = program_.problem().rows();
    result.iterations += solution.iterations;
    result.outcome = solution.outcome;
    result.text = solution.text;
    if (!solution.optimal()) return false;
    change_.assign(weights_, 0);
    if (norm_ == Norm::l1) {
      for (int w = 0; w < weights_; ++w) change_[w] = solution.x[2 * w] - solution.x[2 * w + 1];
      result.size = solution.objective;
    } else if (solution.x[0] * kLargest < 1) {
      result.outcome = Outcome::infeasible;
      result.text = "no change of the layer meets all demands";
      return false;
    } else {
      for (int w = 0; w < weights_; ++w) change_[w] = solution.x[1 + w] / solution.x[0];
      result.size = 1 / solution.x[0];
    }
    return true;
  }

  // 0 for weights that were added after the last solve.
  double change(int weight) const { return weight < std::ssize(change_) ? change_[weight] : 0; }

 private:
  void add(const std::vector<int>& weights, const std::vector<double>& values, double low, double high,
           double bound) {
    std::vector<int> columns;
    std::vector<double> entries;
    for (size_t k = 0; k < weights.size(); ++k) {
      if (norm_ == Norm::linf) {
        columns.push_back(1 + weights[k]);
        entries.push_back(values[k]);
      } else {
        columns.insert(columns.end(), {2 * weights[k], 2 * weights[k] + 1});
        entries.insert(entries.end(), {values[k], -values[k]});
      }
    }
    if (norm_ == Norm::linf) {
      columns.push_back(0);
      entries.push_back(-bound);
      if (std::isfinite(low)) low = 0;
      if (std::isfinite(high)) high = 0;
    }
    program_.add_row(columns, entries, low, high);
  }

  Norm norm_;
  LinearProgram program_;
  int weights_ = 0;
  std::vector<double> change_;
};

// Features that are not zero at some point.
std::vector<int> live_features(std::span<const double> phi, int features) {
  std::vector<int> live;
  for (int i = 0; i < features; ++i) {
    for (size_t at = i; at < phi.size(); at += features) {
      if (phi[at] == 0) continue;
      live.push_back(i);
      break;
    }
  }
  return live;
}

// Adds rows only when they are violated: K points of ten classes have 9 K rows, of which few are needed.
class ClassProgram {
 public:
  ClassProgram(const ClassDemands& demands, Norm norm)
      : demands_(demands),
        live_(live_features(demands.phi, demands.features)),
        program_(norm),
        first_weight_(demands.classes, -1),
        entered_(demands.labels.size()) {}

  MinimalChange run(const Limits& limits) {
    MinimalChange result;
    result.outcome = Outcome::optimal;
    if (add_violated(false) > 0) {
      Watch watch(limits);
      add_violated(true);
      do {
        Limits rest = limits;
        rest.seconds = watch.seconds_left();
        if (!program_.solve(rest, result)) return result;
      } while (add_violated(true) > 0);
    }
    result.change.assign(static_cast<size_t>(demands_.classes) * demands_.features, 0);
    for (int c = 0; c < demands_.classes; ++c) {
      if (first_weight_[c] < 0) continue;
      for (size_t i = 0; i < live_.size(); ++i)
        result.change[c * demands_.features + live_[i]] =
            program_.change(first_weight_[c] + static_cast<int>(i));
    }
    return result;
  }

 private:
  // Returns how many rows it added. The first round adds the strongest competitor of every point, as each of
  // them constrains the change; later rounds add the most violated row of each point. Without `add` it only
  // counts the violated ones.
  int add_violated(bool add) {
    int added = 0;
    const bool first = add && !started_;
    started_ = started_ || add;
    for (size_t k = 0; k < demands_.labels.size(); ++k) {
      const std::vector<double> moved = logits(k, add && !first);
      const auto label = static_cast<int>(demands_.labels[k]);
      int worst = -1;
      for (int j = 0; j < demands_.classes; ++j) {
        if (j == label || entered_[k].count(j) > 0) continue;
        if (worst < 0 || moved[j] > moved[worst]) worst = j;
      }
      if (worst < 0) continue;
      const double missed = demands_.margin - (moved[label] - moved[worst]);
      if (!first && missed <= kMissed) continue;
      ++added;
      if (add) add_row(k, label, worst);
    }
    return added;
  }

  std::vector<double> logits(size_t k, bool changed) const {
    std::vector<double> values(demands_.logits.begin() + k * demands_.classes,
                               demands_.logits.begin() + (k + 1) * demands_.classes);
    if (!changed) return values;
    for (int c = 0; c < demands_.classes; ++c) {
      if (first_weight_[c] < 0) continue;
      for (size_t i = 0; i < live_.size(); ++i)
        values[c] += program_.change(first_weight_[c] + static_cast<int>(i)) * phi(k, live_[i]);
    }
    return values;
  }

  void add_row(size_t k, int label, int other) {
    entered_[k].insert(other);
    std::vector<int> weights;
    std::vector<double> values;
    for (const int c : {label, other}) {
      if (first_weight_[c] < 0) first_weight_[c] = program_.add_weights(static_cast<int>(live_.size()));
      for (size_t i = 0; i < live_.size(); ++i) {
        weights.push_back(first_weight_[c] + static_cast<int>(i));
        values.push_back(c == label ? phi(k, live_[i]) : -phi(k, live_[i]));
      }
    }
    const double* z = &demands_.logits[k * demands_.classes];
    program_.demand(weights, values, demands_.margin - (z[label] - z[other]), kInfinity);
  }

  double phi(size_t k, int feature) const { return demands_.phi[k * demands_.features + feature]; }

  const ClassDemands& demands_;
  const std::vector<int> live_;
  ChangeProgram program_;
  std::vector<int> first_weight_;       // of each class; -1: in no row yet
  std::vector<std::set<int>> entered_;  // for each point, the competitors that have a row
  bool started_ = false;
};

}  // namespace

MinimalChange minimal_class_change(const ClassDemands& demands, Norm norm, const Limits& limits) {
  return ClassProgram(demands, norm).run(limits);
}

MinimalChange minimal_unit_change(const UnitDemands& demands, Norm norm, const Limits& limits) {
  MinimalChange result;
  result.outcome = Outcome::optimal;
  result.change.assign(demands.features, 0);
  const auto points = demands.values.size();
  const auto missed = [&](size_t k) {
    return demands.wanted[k] > 0 ? demands.values[k] != demands.wanted[k] : demands.values[k] > 0;
  };
  bool any = false;
  for (size_t k = 0; k < points; ++k) any = any || missed(k);
  if (!any) return result;
  const std::vector<int> live = live_features(demands.phi, demands.features);
  ChangeProgram program(norm);
  program.add_weights(static_cast<int>(live.size()));
  for (size_t k = 0; k < points; ++k) {
    std::vector<int> weights;
    std::vector<double> values;
    for (size_t i = 0; i < live.size(); ++i) {
      weights.push_back(static_cast<int>(i));
      values.push_back(demands.phi[k * demands.features + live[i]]);
    }
    const double bound = std::max(0.0, demands.wanted[k]) - demands.values[k];
    program.demand(weights, values, demands.wanted[k] > 0 ? bound : -kInfinity, bound);
  }
  if (!program.solve(limits, result)) {
    result.change.clear();
    return result;
  }
  for (size_t i = 0; i < live.size(); ++i) result.change[live[i]] = program.change(static_cast<int>(i));
  return result;
}

}  // namespace harness::lp
