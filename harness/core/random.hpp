#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace harness {

// A seed for one purpose ("AR/1/negatives"), so that no stream depends on how many numbers another one drew.
uint64_t derive_seed(uint64_t seed, std::string_view purpose);

// A random stream that gives the same numbers on every platform. (The standard library defines engines
// exactly, but not distributions.) xoshiro256**, seeded by splitmix64.
class RandomStream {
 public:
  explicit RandomStream(uint64_t seed);
  uint64_t bits();
  double uniform();                                 // [0, 1), 53 bits
  double uniform(double low, double high);          // [low, high)
  double normal();                                  // mean 0, deviation 1 (Box-Muller, both values used)
  int64_t below(int64_t bound);                     // 0 .. bound-1 without bias, bound > 0
  std::vector<int64_t> permutation(int64_t count);  // Fisher-Yates
  std::vector<int64_t> sample(int64_t count, int64_t size);  // `size` distinct of 0..count-1, in drawn order

 private:
  uint64_t state_[4];
  double spare_ = 0;
  bool has_spare_ = false;
};

// Counter-based uniform number in [0, 1). It depends on (seed, image, element) only, not on batch or thread.
double counter_uniform(uint64_t seed, uint64_t image, uint64_t element);

}  // namespace harness
