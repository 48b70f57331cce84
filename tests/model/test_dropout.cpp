#include <cmath>

#include "harness/core/random.hpp"
#include "harness/model/dropout_mask.hpp"
#include "harness/model/execute.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

const at::TensorOptions kFloats(at::kFloat);

TEST_CASE("dropout masks are what splitmix64 gives") {
  // Its first numbers from state 0 are e220a8397b1dcdaf, 6e789e6aa1b965f4, 06c45d188009454f, f88bb8a8724c81ec
  // and 1b39896a51a8749b: 0.88, 0.43, 0.03, 0.97 and 0.11 of 2^64.
  REQUIRE(at::equal(dropout_mask({5}, 0.5, 0, kFloats), at::tensor({0.f, 2.f, 2.f, 0.f, 2.f})));
  REQUIRE(at::equal(dropout_mask({5}, 0.25, 0, kFloats), at::tensor({0.f, 0.f, 4.f, 0.f, 4.f})));
  // What a device must give, too (computed apart, in plain integers).
  const at::Tensor kept = dropout_mask({100, 1000}, 0.7, 0xfedcba9876543210, kFloats).gt(0).flatten();
  REQUIRE(kept.sum().item<int64_t>() == 70159);
  REQUIRE(kept.nonzero().sum().item<int64_t>() == 3499903281);
}

TEST_CASE("dropout masks by tensor operations have the bits of the loop") {
  RandomStream draws(3);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    for (const double keep : {0.1, 0.5, 2.0 / 3, 0.9, 0.999999}) {
      for (const std::vector<int64_t>& shape :
           std::vector<std::vector<int64_t>>{{0, 3}, {1}, {7, 5}, {3, 4, 1, 1}, {2, 3, 41, 43}, {20000}}) {
        const uint64_t stream = draws.bits();
        const at::TensorOptions options(type);
        const at::Tensor loop = dropout_mask(shape, keep, stream, options),
                         tensors = dropout_mask_by_tensors(shape, keep, stream, options);
        REQUIRE(loop.sizes() == at::IntArrayRef(shape));
        REQUIRE(tensors.scalar_type() == type);
        REQUIRE(at::equal(loop, tensors));
      }
    }
  }
}

// Of two rows of kept (1) and dropped (0) elements of the same probability.
double correlation(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a - a.mean(), y = b - b.mean();
  return ((x * y).mean() / (x.square().mean() * y.square().mean()).sqrt()).item<double>();
}

TEST_CASE("dropout masks look drawn: mean, variance, neighbours, steps and layers") {
  constexpr int64_t kCount = 1 << 18;
  const double within = 5 / std::sqrt(static_cast<double>(kCount));  // five standard deviations
  for (const double keep : {0.2, 0.5, 0.8}) {
    const auto row = [&](uint64_t stream) {
      return dropout_mask({kCount}, keep, stream, at::TensorOptions(at::kDouble)).gt(0).to(at::kDouble);
    };
    const at::Tensor first = row(derive_seed(1, "dropout/0"));
    REQUIRE(std::abs(first.mean().item<double>() - keep) < within * std::sqrt(keep * (1 - keep)));
    const at::Tensor sums = first.view({1024, 256}).sum(1);  // of rows: binomial
    const double expected = 256 * keep * (1 - keep), found = sums.var().item<double>();
    REQUIRE(std::abs(found - expected) < 5 * expected * std::sqrt(2.0 / 1023));
    for (const int64_t lag : {1, 2, 3, 4, 8, 28, 32, 64, 224, 4096}) {
      INFO("lag " << lag);
      REQUIRE(std::abs(correlation(first.slice(0, lag), first.slice(0, 0, kCount - lag))) < within * 1.02);
    }
    std::vector<at::Tensor> others;
    for (int step = 1; step < 4; ++step)
      others.push_back(row(derive_seed(1, "dropout/" + std::to_string(step))));
    for (const std::string layer : {"dropout_1", "dropout_2"})
      others.push_back(row(derive_seed(derive_seed(1, "dropout/0"), layer)));
    others.push_back(row(derive_seed(2, "dropout/0")));
    for (size_t k = 0; k < others.size(); ++k) {
      REQUIRE(std::abs(correlation(first, others[k])) < within);
      REQUIRE(std::abs(correlation(others[0], others[k])) < (k == 0 ? 1.1 : within));
    }
  }
}

TEST_CASE("dropout layers of one pass have masks of their own, and a pass the same ones again") {
  Node first, second;
  first.kind = second.kind = NodeKind::dropout;
  first.attributes = second.attributes = DropoutAttributes{.probability = 0.5};
  first.name = "dropout_1";
  second.name = "dropout_2";
  const at::Tensor x = at::ones({4, 6, 5, 5});
  const auto run = [&](const Node& node, uint64_t seed) { return execute(node, {x}, {}, {true, seed}); };
  REQUIRE(at::equal(run(first, 1), run(first, 1)));
  REQUIRE_FALSE(at::equal(run(first, 1), run(second, 1)));
  REQUIRE_FALSE(at::equal(run(first, 1), run(first, 2)));
  REQUIRE(at::equal(execute(first, {x}, {}, {false, 1}), x));
  // Whole channels; the same elements whatever the order in memory.
  first.attributes = DropoutAttributes{.probability = 0.5, .per_channel = true};
  const at::Tensor channels = run(first, 1);
  REQUIRE(at::equal(channels, channels.select(3, 0).select(2, 0).unsqueeze(2).unsqueeze(3).expand_as(x)));
  second.name = "dropout_1";
  REQUIRE(at::equal(execute(second, {x.contiguous(at::MemoryFormat::ChannelsLast)}, {}, {true, 1}),
                    execute(second, {x}, {}, {true, 1})));
}

}  // namespace
}  // namespace harness
