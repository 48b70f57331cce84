#include "harness/model/autograd.hpp"
#include "harness/model/fast/input_gradient.hpp"
#include "tests/measure/fixture.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

// d sum(weights * values) / d x by autograd through the network's own operators.
at::Tensor by_autograd(const Network& network, const at::Tensor& x, const at::Tensor& weights, bool logits) {
  at::AutoGradMode record(true);
  const at::Tensor leaf = x.clone().requires_grad_();
  const at::Tensor values =
      logits ? network.differentiable_logits(leaf) : network.differentiable_output(leaf);
  return grad({values}, {leaf}, {weights})[0];
}

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item<double>();
}

}  // namespace

TEST_CASE("input gradients equal autograd's for every kind of layer") {
  for (const std::string& name : model_names()) {
    const Network network = load_model(name);
    CHECK(network.importable() == (name != "opaque"));
    for (const bool logits : {false, true}) {
      if (name == "saturated" && !logits) continue;  // exactly zero: the attack's tests look at it
      const InputGradient gradient(network, logits ? InputGradient::Of::logits : InputGradient::Of::output);
      for (const int64_t count : {1, 5}) {
        const at::Tensor x = some_inputs(count, 5);
        at::manual_seed(8);
        const at::Tensor weights = at::randn({count, 4});
        at::Tensor seen;
        const at::Tensor found = gradient(x, [&](const at::Tensor& values) {
          seen = values.clone();
          return weights.clone();
        });
        INFO(name << ", logits " << logits << ", images " << count);
        CHECK(found.sizes() == x.sizes());
        CHECK(found.is_contiguous());
        CHECK(relative_difference(seen, logits ? network.logits(x) : network.output(x)) < 1e-5);
        CHECK(relative_difference(found, by_autograd(network, x, weights, logits)) < 2e-5);
      }
    }
  }
}

TEST_CASE("equal values in a pooling window pass the gradient on as torch does") {
  const Network network = load_model("pooled");
  const InputGradient gradient(network, InputGradient::Of::logits);
  // Constant and half-constant images: whole windows of the first convolution are equal.
  at::Tensor x = at::zeros({3, 3, 12, 12});
  x[1].fill_(0.5);
  x[2].narrow(1, 0, 6).fill_(1);
  at::manual_seed(8);
  const at::Tensor weights = at::randn({3, 4});
  const at::Tensor found = gradient(x, [&](const at::Tensor&) { return weights.clone(); });
  CHECK(relative_difference(found, by_autograd(network, x, weights, true)) < 2e-5);
}

TEST_CASE("input gradients leave network and inputs as they were") {
  Network network = load_model("residual");
  network.require_grad(true);
  const std::string before = network.digest();
  const at::Tensor x = some_inputs(4, 6);
  const at::Tensor kept = x.clone();
  const InputGradient gradient(network, InputGradient::Of::output);
  const auto ones = [](const at::Tensor& values) {
    return at::arange(values.numel()).view_as(values).to(at::kFloat);
  };
  const at::Tensor first = gradient(x, ones), second = gradient(x, ones);
  CHECK(at::equal(first, second));
  CHECK_FALSE(first.requires_grad());
  CHECK(at::equal(x, kept));
  CHECK(network.digest() == before);
  for (const Parameter& parameter : network.parameters()) CHECK_FALSE(parameter.value.grad().defined());
}
