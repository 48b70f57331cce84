#include "harness/core/random.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <bit>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "harness/core/error.hpp"

namespace harness {

namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;  // 2^64 over the golden ratio, the increment of splitmix64

uint64_t mix(uint64_t value) {  // the output function of splitmix64
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

double to_unit(uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

}  // namespace

uint64_t derive_seed(uint64_t seed, std::string_view purpose) {
  return mix(XXH3_64bits_withSeed(purpose.data(), purpose.size(), seed));
}

RandomStream::RandomStream(uint64_t seed) {
  for (uint64_t& word : state_) word = mix(seed += kGolden);
}

uint64_t RandomStream::bits() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

double RandomStream::uniform() {
  return to_unit(bits());
}

double RandomStream::uniform(double low, double high) {
  const double value = low + (high - low) * uniform();
  return value < high ? value : std::nextafter(high, low);  // rounding may reach `high`
}

double RandomStream::normal() {
  if (std::exchange(has_spare_, false)) return spare_;
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  const double angle = 2 * std::numbers::pi * uniform();
  spare_ = radius * std::sin(angle);
  has_spare_ = true;
  return radius * std::cos(angle);
}

int64_t RandomStream::below(int64_t bound) {
  if (bound <= 0) interface_misuse("RandomStream::below of a bound that is not positive");
  // Lemire's multiplication: the high word is the number; products with a low word under `threshold` are
  // rejected, so that every number is equally likely.
  const uint64_t range = static_cast<uint64_t>(bound);
  auto product = static_cast<unsigned __int128>(bits()) * range;
  if (static_cast<uint64_t>(product) < range) {
    const uint64_t threshold = -range % range;
    while (static_cast<uint64_t>(product) < threshold) {
      product = static_cast<unsigned __int128>(bits()) * range;
    }
  }
  return static_cast<int64_t>(product >> 64);
}

std::vector<int64_t> RandomStream::permutation(int64_t count) {
  return sample(count, count);
}

std::vector<int64_t> RandomStream::sample(int64_t count, int64_t size) {
  if (count < 0 || size < 0 || size > count) interface_misuse("RandomStream::sample of more than there is");
  std::vector<int64_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), int64_t{0});
  for (int64_t i = 0; i < size && i + 1 < count; ++i) {
    std::swap(numbers[static_cast<size_t>(i)], numbers[static_cast<size_t>(i + below(count - i))]);
  }
  numbers.resize(static_cast<size_t>(size));
  return numbers;
}

double counter_uniform(uint64_t seed, uint64_t image, uint64_t element) {
  // element e is number e of a splitmix64 sequence whose start is derived from seed and image
  const uint64_t state = mix(mix(seed + kGolden) ^ (image + 1) * kGolden);
  return to_unit(mix(state + (element + 1) * kGolden));
}

}  // namespace harness
