#pragma once

#include <vector>

#include "approaches/regions/dense_head.hpp"

namespace harness::regions {

// What is added to the logits of one linear region: factor x + constant, of the features x. CPU, double.
struct AffinePatches {
  at::Tensor factor;    // (L, C, D); undefined where all are constant
  at::Tensor constant;  // (L, C)
};

struct PatchSetting {
  std::vector<at::Tensor> patterns;  // of the L regions, as activation_patterns() gives them
  AffinePatches patches;
  at::Tensor low, high;  // (D), of the features, for the constants K; double
  double sharpness = 1;  // n
};

// The network with the joint patch of L regions on its logits (approaches/docs/RA.md, Formulas: joint), in
// nodes and constants named "reassure.*" behind the logits; every old parameter keeps its bits. A region's
// support g is 1 inside, and 0 where its row violations, each cut at 1/n, sum up to 1/n or more; there the
// logits are the old ones, bit for bit. Rows of the first hidden layer cost one product for all regions and
// inputs, those of deeper ones a product for each region; only sign masks are stored, no rows.
Network with_patches(const Network& original, const DenseHead& head, const PatchSetting& setting);

// Multiply-adds of linear layers and convolutions for one input, and one operation per value of every other
// node (of a pooling: per value of a window).
double operations(const Network& network);

}  // namespace harness::regions
