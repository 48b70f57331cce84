#include "tests/golden/reference_streams.hpp"

#include <ATen/ATen.h>

#include <bit>
#include <cmath>
#include <span>

namespace harness::testing {
namespace {

// Sum in NumPy's order: eight running sums over up to 128 numbers, halves of a multiple of eight above that.
float pairwise_sum(std::span<const float> values) {
  if (values.size() < 8) {
    float sum = 0;
    for (const float value : values) sum += value;
    return sum;
  }
  if (values.size() > 128) {
    const size_t half = values.size() / 2 / 8 * 8;
    return pairwise_sum(values.first(half)) + pairwise_sum(values.subspan(half));
  }
  float lanes[8];
  std::copy_n(values.begin(), 8, lanes);
  size_t k = 8;
  for (; k + 8 <= values.size(); k += 8) {
    for (size_t lane = 0; lane < 8; ++lane) lanes[lane] += values[k + lane];
  }
  float sum =
      ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  for (; k < values.size(); ++k) sum += values[k];
  return sum;
}

}  // namespace

MersenneTwister::MersenneTwister(uint32_t seed) {
  state_[0] = seed;
  for (uint32_t k = 1; k < state_.size(); ++k)
    state_[k] = 1812433253u * (state_[k - 1] ^ (state_[k - 1] >> 30)) + k;
}

MersenneTwister MersenneTwister::of_key(const std::vector<uint32_t>& key) {
  MersenneTwister twister(19650218u);
  std::array<uint32_t, 624>& state = twister.state_;
  const auto mixed = [&](size_t k) { return state[k - 1] ^ (state[k - 1] >> 30); };
  size_t k = 1, at = 0;
  const auto advance = [&] {
    if (++k == state.size()) {
      state[0] = state.back();
      k = 1;
    }
  };
  for (size_t step = 0; step < std::max(state.size(), key.size()); ++step) {
    state[k] = (state[k] ^ (mixed(k) * 1664525u)) + key[at] + static_cast<uint32_t>(at);
    advance();
    at = (at + 1) % key.size();
  }
  for (size_t step = 1; step < state.size(); ++step) {
    state[k] = (state[k] ^ (mixed(k) * 1566083941u)) - static_cast<uint32_t>(k);
    advance();
  }
  state[0] = 0x80000000u;
  return twister;
}

void MersenneTwister::twist() {
  for (size_t k = 0; k < state_.size(); ++k) {
    const uint32_t joined = (state_[k] & 0x80000000u) | (state_[(k + 1) % state_.size()] & 0x7fffffffu);
    state_[k] = state_[(k + 397) % state_.size()] ^ (joined >> 1) ^ (joined & 1u ? 0x9908b0dfu : 0u);
  }
  used_ = 0;
}

uint32_t MersenneTwister::next() {
  if (used_ == state_.size()) twist();
  uint32_t value = state_[used_++];
  value ^= value >> 11;
  value ^= (value << 7) & 0x9d2c5680u;
  value ^= (value << 15) & 0xefc60000u;
  return value ^ (value >> 18);
}

double MersenneTwister::uniform() {
  const double high = next() >> 5, low = next() >> 6;
  return (high * 67108864.0 + low) / 9007199254740992.0;
}

// Masked to the bits of `greatest`, and drawn again while above it.
int64_t NumpyRandom::below_or_equal(int64_t max_value) {
  const uint32_t limit = static_cast<uint32_t>(max_value);
  const uint32_t mask = limit == 0 ? 0 : ~0u >> std::countl_zero(limit);
  uint32_t value;
  do value = source_.next() & mask;
  while (value > limit);
  return value;
}

std::vector<int64_t> NumpyRandom::permutation(int64_t count) {
  std::vector<int64_t> order(count);
  for (int64_t k = 0; k < count; ++k) order[k] = k;
  for (int64_t k = count - 1; k > 0; --k) std::swap(order[k], order[below_or_equal(k)]);
  return order;
}

std::vector<int64_t> NumpyRandom::choice(const std::vector<int64_t>& from, int64_t size) {
  std::vector<int64_t> chosen = permutation(static_cast<int64_t>(from.size()));
  chosen.resize(size);
  for (int64_t& value : chosen) value = from[value];
  return chosen;
}

double NumpyRandom::normal() {
  if (spare_) {
    const double value = *spare_;
    spare_.reset();
    return value;
  }
  double x, y, square;
  do {
    x = 2.0 * source_.uniform() - 1.0;
    y = 2.0 * source_.uniform() - 1.0;
    square = x * x + y * y;
  } while (square >= 1.0 || square == 0.0);
  const double factor = std::sqrt(-2.0 * std::log(square) / square);
  spare_ = factor * x;
  return factor * y;
}

int64_t PythonRandom::randrange(int64_t bound) {
  const int bits = std::bit_width(static_cast<uint64_t>(bound));
  int64_t value;
  do value = source_.next() >> (32 - bits);
  while (value >= bound);
  return value;
}

NumpyMoments numpy_moments(const at::Tensor& values) {
  const at::Tensor flat = values.detach().contiguous().flatten();
  const std::span<const float> numbers(flat.data_ptr<float>(), flat.numel());
  const float count = static_cast<float>(numbers.size());
  NumpyMoments moments{.mean = pairwise_sum(numbers) / count};
  std::vector<float> squares;
  for (const float number : numbers) {
    const float difference = number - moments.mean;
    squares.push_back(difference * difference);
  }
  moments.deviation = std::sqrt(pairwise_sum(squares) / count);
  return moments;
}

}  // namespace harness::testing
