#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace harness::testing {

// The random numbers of NumPy's legacy RandomState and of Python's `random`, and NumPy's float32 sums, number
// for number, so that a test can replay a program that drew from them. Only what such tests draw.

// The 32-bit Mersenne twister MT19937.
class MersenneTwister {
 public:
  explicit MersenneTwister(uint32_t seed);                          // Knuth's start from one number: NumPy
  static MersenneTwister of_key(const std::vector<uint32_t>& key);  // start from an array: Python
  uint32_t next();
  double uniform();  // [0, 1), 53 bits of two numbers

 private:
  void twist();
  std::array<uint32_t, 624> state_{};
  size_t used_ = 624;
};

// numpy.random.seed(seed) and what follows.
class NumpyRandom {
 public:
  explicit NumpyRandom(uint32_t seed) : source_(seed) {}
  std::vector<int64_t> permutation(int64_t count);
  // choice(from, size, replace=False)
  std::vector<int64_t> choice(const std::vector<int64_t>& from, int64_t size);
  double normal();  // mean 0, deviation 1: the polar method, both values used

 private:
  int64_t below_or_equal(int64_t max_value);
  MersenneTwister source_;
  std::optional<double> spare_;
};

// random.seed(seed) and what follows.
class PythonRandom {
 public:
  explicit PythonRandom(uint32_t seed) : source_(MersenneTwister::of_key({seed})) {}
  double random() { return source_.uniform(); }
  int64_t randrange(int64_t bound);  // 0 .. bound-1, bound in 1 .. 2^31

 private:
  MersenneTwister source_;
};

// numpy.mean and numpy.std over all elements of a contiguous float32 array, which add in pairs.
struct NumpyMoments {
  float mean = 0, deviation = 0;
};
NumpyMoments numpy_moments(const at::Tensor& values);

}  // namespace harness::testing
