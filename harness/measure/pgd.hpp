#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "harness/model/network.hpp"

namespace harness {

enum class AttackLoss { cross_entropy, margin };  // margin: largest other logit minus the true logit

// Untargeted L-infinity PGD with foolbox 3.3.3 semantics (harness/docs/metrics.md, The attack).
struct PgdOptions {
  double epsilon = 0;
  int64_t steps = 40;
  double relative_step = 0.01 / 0.3;
  bool random_start = true;
  double low = 0, high = 1;  // bounds
  bool on_logits = false;    // cross-entropy of the logits instead of the model's own output
  AttackLoss loss = AttackLoss::cross_entropy;
  uint64_t seed = 0;  // with the image number decides the random start, nothing else does
  int64_t piece = 0;  // images per piece (the last maybe fewer); 0: even pieces, up to preferred_piece()
};

struct PgdResult {
  std::vector<uint8_t> success;        // one per input: arg max of the final point differs from the label
  std::vector<uint8_t> zero_gradient;  // gradient at the start (after the random start) exactly zero
};

// A pure function of the network's shapes and of the device's memory class.
int64_t preferred_piece(const Network& network);

// Attacks inputs x (N,C,H,W) with labels (N) int64; `images` (N) are their numbers in the test split, for the
// random start. `keep_going` is called between pieces; false ends early with what is done. Black-box models
// are attacked through TorchScript's autograd.
PgdResult attack(const Network& network, const at::Tensor& x, const at::Tensor& labels,
                 const std::vector<int64_t>& images, const PgdOptions& options,
                 const std::function<bool()>& keep_going = {});

}  // namespace harness
