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
  // Numbers of one image that a value with a row for every region may have. Where all regions would need
  // more, they are computed in parts, one after the other, of at least one region.
  int64_t most_values = int64_t{1} << 17;
};

// The network with the joint patch of L regions on its logits (approaches/docs/RA.md, Formulas: joint), in
// nodes and constants named "reassure.*" behind the logits; every old parameter keeps its bits. A region's
// support g is 1 inside, and 0 where its row violations, each cut at 1/n, sum up to 1/n or more; there the
// logits are the old ones, bit for bit. Rows of the first hidden layer cost one product for all regions and
// inputs, those of deeper ones a product for each region; only sign masks are stored, no rows. Values that
// have a row for every region, of deeper layers and of patches, come in parts (most_values), which follow
// from shapes alone; the parts change results by no more than rounding.
Network with_patches(const Network& original, const DenseHead& head, const PatchSetting& setting);

// Gives a network that with_patches() made of this head and setting the sharpness that the setting has now.
void set_sharpness(Network& patched, const DenseHead& head, const PatchSetting& setting);

// Multiply-adds of linear layers and convolutions for one input, and one operation per value of every other
// node (of a pooling: per value of a window).
double operations(const Network& network);

}  // namespace harness::regions
