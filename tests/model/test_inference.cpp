#include "harness/model/fast/inference.hpp"
#include "tests/model/fixtures.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

const std::vector<std::string> kInferenceModels = {
    "plain_scripted",  "residual_traced", "residual_scripted",  "dense_scripted", "convolutions_traced",
    "shapes_scripted", "tied_scripted",   "normalise_scripted", "pools_traced",   "activations_scripted"};

}  // namespace

TEST_CASE("the inference form computes what the network computes") {
  for (const std::string& name : kInferenceModels) {
    const Network network = load_fixture(name);
    for (const int64_t packed_for : {1, 6}) {
      const InferenceForm form(network, packed_for);
      for (const int64_t count : {1, 2, 6, 33}) {
        INFO(name << " packed for " << packed_for << ", " << count << " images, fused " << form.fused());
        const at::Tensor x = images(count), before = x.clone();
        CHECK(relative_difference(form.output(x), network.output(x)) <= 1e-5);
        CHECK(at::equal(x, before));
      }
    }
  }
}

TEST_CASE("networks with convolutions are fused where oneDNN is there") {
  if (!at::hasMKLDNN()) return;
  for (const char* name : {"plain_scripted", "residual_traced", "dense_scripted"}) {
    CHECK(InferenceForm(load_fixture(name), 4).fused());
  }
}

TEST_CASE("the inference form gives no silent zero gradients") {
  const Network network = load_fixture("plain_scripted");
  const InferenceForm form(network, 4);
  const at::AutoGradMode with_grad(true);
  at::Tensor x = images(4).requires_grad_();
  const at::Tensor output = form.output(x);
  CHECK_FALSE(output.requires_grad());
  if (form.fused()) CHECK(output.is_inference());
}

TEST_CASE("later changes of the network are not seen") {
  Network network = load_fixture("plain_scripted");
  const InferenceForm form(network, 4);
  if (!form.fused()) return;
  const at::Tensor x = images(4), before = form.output(x).clone();
  for (size_t id = 0; id < network.parameters().size(); ++id) {
    const auto parameter = static_cast<ParameterId>(id);
    network.set_parameter(parameter, network.parameters()[id].value * 2);
  }
  CHECK(at::equal(form.output(x), before));
}

TEST_CASE("a black box goes the network's own way") {
  const Network network = load_fixture("unknown_scripted");
  REQUIRE_FALSE(network.importable());
  const InferenceForm form(network, 4);
  CHECK_FALSE(form.fused());
  const at::Tensor x = images(4);
  CHECK(at::equal(form.output(x), network.output(x)));
}

TEST_CASE("the preferred batch follows from the largest value") {
  CHECK(preferred_batch(load_fixture("plain_scripted")) == 250);  // small images: as many as a batch may have
}
