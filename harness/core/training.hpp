#pragma once

#include <cstdint>
#include <string>

namespace harness {

// How the original was trained. Retraining approaches need it, and TorchScript files do not say it.
struct TrainingConfig {
  std::string optimizer = "adam";  // sgd | adam
  double learning_rate = 1e-3;
  double momentum = 0;  // sgd only
  double weight_decay = 0;
  int64_t batch = 128;
  int64_t epochs = 10;
  std::string augmentation = "none";            // none | flip | crop_flip
  std::string initialiser = "kaiming_uniform";  // kaiming_uniform | glorot_uniform
};

}  // namespace harness
