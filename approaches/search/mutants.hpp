#pragma once

#include <cstdint>
#include <vector>

#include "approaches/search/edits.hpp"
#include "approaches/weights.hpp"
#include "harness/core/random.hpp"

namespace harness::search {

// How mutants are made (approaches/docs/GM.md, Formulas, and Steps in this project, 4).
struct MutantSettings {
  double share = 0.01;  // rho: share of a layer's weights, or of its units, that is mutated at a time
  double sigma = 0.1;   // deviation of the relative noise
  // How often each operator is applied, relative to the others: Gaussian fuzzing of some weights; negated,
  // zeroed or shuffled incoming weights of one unit, with the bias negated or zeroed as well.
  double fuzz = 0.7, negate = 0.1, zero = 0.1, shuffle = 0.1;
};

// A layer that is mutated, and the order in which its weights and units are chosen.
struct MutableLayer {
  ParameterId weight = -1, bias = -1;  // no bias, or one that other nodes read: -1
  int64_t units = 0, row = 0;          // the kernel's values are units * row
  bool ranked = false;                 // false: weights and units are drawn uniformly
  std::vector<int64_t> top_weights;    // by rank; at least window() of them
  std::vector<int64_t> top_units;      // by rank, all
};
MutableLayer mutable_layer(const Network& network, const TargetLayer& layer);  // not ranked yet

// c = max(1, round(share * size)) are mutated, out of the ranks [0, 4c).
int64_t mutated(const MutantSettings& settings, int64_t size);
int64_t window(const MutantSettings& settings, int64_t size);

// `count` distinct ranks of 0..window-1, the first drawn in proportion to window - rank, each further one in
// the same proportion among those left.
std::vector<int64_t> draw_ranks(int64_t window, int64_t count, RandomStream& stream);

// A mutant of `parent`, by one operator on one layer.
Edits mutant(const Edits& parent, const MutableLayer& layer, const MutantSettings& settings,
             const OriginalValues& original, RandomStream& stream);

}  // namespace harness::search
