#include <ATen/Parallel.h>

#include <atomic>
#include <numeric>

#include "harness/measure/pgd.hpp"
#include "harness/measure/pgd_step.hpp"
#include "harness/model/autograd.hpp"
#include "tests/measure/fixture.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

std::vector<int64_t> numbers(int64_t count, int64_t first = 0) {
  std::vector<int64_t> result(static_cast<size_t>(count));
  std::iota(result.begin(), result.end(), first);
  return result;
}

PgdOptions plain_options() {
  PgdOptions options;
  options.epsilon = 0.08;
  options.seed = 11;
  return options;
}

// The attack written down once more, over autograd and whole batches, without a random start.
std::vector<uint8_t> reference(const Network& network, const at::Tensor& x0, const at::Tensor& labels,
                               const PgdOptions& options) {
  const bool margin = options.loss == AttackLoss::margin;
  at::Tensor x = x0.clone();
  for (int64_t step = 0; step < options.steps; ++step) {
    at::AutoGradMode record(true);
    const at::Tensor leaf = x.detach().clone().requires_grad_();
    const at::Tensor values = margin || options.on_logits ? network.differentiable_logits(leaf)
                                                          : network.differentiable_output(leaf);
    const at::Tensor truth = values.gather(1, labels.unsqueeze(1)).squeeze(1);
    const at::Tensor others = values.scatter(1, labels.unsqueeze(1), -1e30);
    const at::Tensor loss = margin ? (std::get<0>(others.max(1)) - truth).sum()
                                   : at::cross_entropy_loss(values, labels, {}, /*reduction=*/2);
    const at::Tensor gradient = grad({loss}, {leaf})[0];
    x = x + gradient.sign() * (options.epsilon * options.relative_step);
    x = (x0 + (x - x0).clamp(-options.epsilon, options.epsilon)).clamp(options.low, options.high);
  }
  const at::Tensor wrong = network.classify(x).ne(labels).to(at::kByte);
  return {wrong.data_ptr<uint8_t>(), wrong.data_ptr<uint8_t>() + wrong.numel()};
}

int64_t total(const std::vector<uint8_t>& flags) {
  return std::accumulate(flags.begin(), flags.end(), int64_t{0});
}

}  // namespace

TEST_CASE("flags equal a second, plain writing of the attack") {
  int64_t attacked = 0, succeeded = 0, different = 0;
  for (const std::string& name : model_names()) {
    if (name == "saturated") continue;  // its gradients are rounding alone
    const Network network = load_model(name);
    const at::Tensor x = some_inputs(60, 21), labels = network.classify(x);
    for (const int variant : {0, 1, 2}) {
      PgdOptions options = plain_options();
      options.random_start = false;
      options.epsilon = 0.03;
      options.low = 0.02;
      options.on_logits = variant == 1;
      if (variant == 2) options.loss = AttackLoss::margin;
      const auto expected = reference(network, x, labels, options);
      const auto found = attack(network, x, labels, numbers(60), options).success;
      REQUIRE(found.size() == 60);
      attacked += 60;
      succeeded += total(expected);
      for (size_t k = 0; k < 60; ++k) different += found[k] != expected[k];
    }
  }
  CHECK(succeeded > attacked / 10);
  CHECK(succeeded < attacked * 9 / 10);
  CHECK(different * 1000 <= attacked * 2);  // rounding may turn the sign of a vanishing gradient
}

TEST_CASE("an attack that may not move anything leaves clean accuracy") {
  const Network network = load_model("residual");
  const at::Tensor x = some_inputs(40, 22);
  at::Tensor labels = network.classify(x).clone();
  labels.narrow(0, 0, 10).add_(1).remainder_(4);
  for (const int variant : {0, 1}) {
    PgdOptions options = plain_options();
    if (variant == 0) options.epsilon = 0;
    if (variant == 1) {
      options.steps = 0;
      options.random_start = false;
    }
    const PgdResult result = attack(network, x, labels, numbers(40), options);
    for (size_t k = 0; k < 40; ++k) CHECK(result.success[k] == (k < 10));
    CHECK(total(result.zero_gradient) == 0);
  }
}

TEST_CASE("an image's flags depend on seed and image number, not on threads, pieces or neighbours") {
  const int threads = at::get_num_threads();
  for (const char* name : {"pooled", "residual", "mixed", "opaque"}) {
    INFO(name);
    const Network network = load_model(name);
    const at::Tensor x = some_inputs(50, 23), labels = network.classify(x);
    PgdOptions options = plain_options();
    options.epsilon = 0.03;
    options.piece = 7;
    const PgdResult all = attack(network, x, labels, numbers(50, 100), options);
    at::set_num_threads(1);
    const PgdResult serial = attack(network, x, labels, numbers(50, 100), options);
    at::set_num_threads(threads);
    CHECK(all.success == serial.success);
    CHECK(all.zero_gradient == serial.zero_gradient);
    options.piece = 50;
    CHECK(attack(network, x, labels, numbers(50, 100), options).success == all.success);
    const auto tail =
        attack(network, x.narrow(0, 30, 20), labels.narrow(0, 30, 20), numbers(20, 130), options);
    CHECK(tail.success == std::vector<uint8_t>(all.success.begin() + 30, all.success.end()));
  }
}

TEST_CASE("random start: within ball and bounds, decided by seed and image, uniform") {
  const at::Tensor x = some_inputs(20, 24);
  const PgdBox box{.epsilon = 0.1, .step = 0, .low = 0.05, .high = 0.9};
  const auto images = numbers(20, 7);
  const at::Tensor start = random_start(x, images.data(), 1, box);
  const at::Tensor clipped = x.clamp(box.low, box.high);
  CHECK((start - clipped).abs().max().item<double>() <= 0.1 + 1e-6);
  CHECK(start.min().item<double>() >= 0.05f);
  CHECK(start.max().item<double>() <= 0.9f);
  CHECK(at::equal(start.narrow(0, 4, 3),
                  random_start(x.narrow(0, 4, 3).contiguous(), images.data() + 4, 1, box)));
  CHECK_FALSE(at::equal(start, random_start(x, images.data(), 2, box)));
  const PgdBox wide{.epsilon = 0.1, .step = 0, .low = -9, .high = 9};
  const at::Tensor shift = (random_start(x, images.data(), 1, wide) - x) / 0.1;  // 8,640 draws
  CHECK(std::abs(shift.mean().item<double>()) < 0.03);
  CHECK(shift.pow(2).mean().item<double>() == Approx(1.0 / 3).epsilon(0.04));
}

TEST_CASE("one step of ascent rounds as torch does") {
  at::manual_seed(25);
  const at::Tensor original = at::rand({3, 1, 9, 9}), gradient = at::randn({3, 1, 9, 9});
  gradient.view(-1).narrow(0, 0, 20).zero_();
  const PgdBox box{.epsilon = 0.15, .step = 0.15 * 0.01 / 0.3, .low = 0, .high = 1};
  at::Tensor x = (original + at::empty_like(original).uniform_(-0.15, 0.15)).clamp(0, 1);
  at::Tensor expected = x + gradient.sign() * box.step;
  expected = (original + (expected - original).clamp(-box.epsilon, box.epsilon)).clamp(box.low, box.high);
  ascend(x, original, gradient, box);
  CHECK(at::equal(x, expected));
}

TEST_CASE("saturated models: the attack cannot start, the margin loss can") {
  const Network network = load_model("saturated");
  const at::Tensor x = some_inputs(40, 26), labels = network.classify(x);
  PgdOptions options = plain_options();
  const PgdResult plain = attack(network, x, labels, numbers(40), options);
  CHECK(total(plain.zero_gradient) >= 38);
  options.loss = AttackLoss::margin;
  const PgdResult margin = attack(network, x, labels, numbers(40), options);
  CHECK(total(margin.zero_gradient) == 0);
  CHECK(total(margin.success) > total(plain.success) + 10);
}

TEST_CASE("stopping early leaves a first part of the flags") {
  const Network network = load_model("pooled");
  const at::Tensor x = some_inputs(40, 27), labels = network.classify(x);
  PgdOptions options = plain_options();
  options.piece = 8;
  const PgdResult whole = attack(network, x, labels, numbers(40), options);
  int checked = 0;
  const PgdResult part = attack(network, x, labels, numbers(40), options, [&] { return ++checked <= 3; });
  CHECK(part.success == std::vector<uint8_t>(whole.success.begin(), whole.success.begin() + 24));
  CHECK(part.zero_gradient.size() == 24);
  CHECK(attack(network, x, labels, numbers(40), options, [] { return false; }).success.empty());
  CHECK(attack(network, x.narrow(0, 0, 0), labels.narrow(0, 0, 0), {}, options).success.empty());
}

TEST_CASE("the size of a piece is a property of the network") {
  const Network small = load_model("pooled");
  CHECK(preferred_piece(small) == 64);
  CHECK(preferred_piece(load_model("opaque")) >= 1);
}
