#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include "harness/model/autograd.hpp"
#include "harness/model/fast/inference.hpp"
#include "harness/model/fast/input_gradient.hpp"
#include "tests/model/fixtures.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

// Properties of every fixture that can be imported: what is written into a parameter reaches TorchScript's
// outputs, the network's, and those of the saved file alike.
namespace {

constexpr double kTolerance = 1e-4;  // of the greatest output, as the import itself is held to

std::vector<std::string> importable_fixtures() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(fixture("plain_scripted").parent_path())) {
    const std::string name = entry.path().stem().string();
    const bool refused = std::set<std::string>{"tuple_scripted",     "dict_scripted",    "logit_scripted",
                                               "half_scripted",      "foreign_scripted", "quantised_scripted",
                                               "from_file_scripted", "saves_scripted",   "hidden_scripted",
                                               "baked_batch_traced"}
                             .count(name) > 0;
    if (entry.path().extension() != ".pt" || refused) continue;
    if (load_fixture(name).importable()) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

const std::vector<std::string>& fixtures() {
  static const std::vector<std::string> names = importable_fixtures();
  return names;
}

std::map<std::string, at::Tensor> tensors_of(const torch::jit::Module& module) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& item : module.named_parameters()) tensors[item.name] = item.value;
  for (const auto& item : module.named_buffers()) tensors[item.name] = item.value;
  return tensors;
}

at::Tensor answer(torch::jit::Module& module, const at::Tensor& x) {
  return module.forward({x.clone()}).toTensor();
}

// A change of `value`, seeded; large enough to be seen in any output.
at::Tensor change_of(const at::Tensor& value, int64_t seed) {
  at::manual_seed(static_cast<uint64_t>(seed));
  return at::randn(value.sizes()).to(value.scalar_type()) * 0.1 + 0.05;
}

// One TorchScript and one Network with the same change: of a stored (in,out) weight the network holds
// (out,in).
struct Pair {
  torch::jit::Module script;
  Network network;

  Pair(const std::string& name, Network fork)
      : script(torch::jit::load(fixture(name).string())), network(std::move(fork)) {
    script.eval();
  }

  void change(ParameterId id) {
    const at::NoGradGuard no_grad;
    const Parameter& parameter = network.parameters()[static_cast<size_t>(id)];
    const at::Tensor own = tensors_of(script).at(parameter.name);
    const bool turned = !at::equal(own, parameter.value);
    own.add_(change_of(own, id));
    network.set_parameter(id, turned ? own.t() : own);
  }
};

void insert_doubling(Network& network) {
  Node node;
  node.kind = NodeKind::mul;
  node.name = "doubled";
  node.inputs = {network.output_node()};
  node.attributes = ArithmeticAttributes{.scalar = 2};
  network.insert_after(network.output_node(), node);
}

}  // namespace

TEST_CASE("every trainable parameter is followed, saved and read back as TorchScript has it") {
  const at::NoGradGuard no_grad;
  const TemporaryFolder folder;
  REQUIRE(fixtures().size() >= 50);
  for (const std::string& name : fixtures()) {
    const Network network = load_fixture(name);
    const int64_t count = network.report().baked_batch > 0 ? network.report().baked_batch : 5;
    const auto ids = static_cast<ParameterId>(network.parameters().size());
    for (ParameterId id = 0; id < ids; ++id) {
      const Parameter& parameter = network.parameters()[static_cast<size_t>(id)];
      if (!parameter.trainable) continue;
      INFO(name << " " << parameter.name);
      const at::Tensor x = images(count).to(parameter.value.scalar_type());
      Pair pair(name, network.fork());
      const at::Tensor before = answer(pair.script, x);
      pair.change(id);
      const at::Tensor expected = answer(pair.script, x);
      CHECK(relative_difference(expected, before) > kTolerance);  // the change is one that is seen
      CHECK(relative_difference(pair.network.output(x), expected) <= kTolerance);
      pair.network.save(folder / "saved.pt");
      torch::jit::Module saved = torch::jit::load((folder / "saved.pt").string());
      CHECK(relative_difference(answer(saved, x), expected) <= kTolerance);
      const auto written = tensors_of(saved);
      CHECK(written.size() == tensors_of(pair.script).size());
      for (const auto& item : pair.script.named_parameters())
        CHECK(at::equal(written.at(item.name), item.value));
      const Network again = Network::load(folder / "saved.pt", images(5));
      CHECK(relative_difference(again.output(x), expected) <= kTolerance);
      CHECK(again.digest() == pair.network.digest());
    }
  }
}

TEST_CASE("generated TorchScript follows every parameter, too") {
  const at::NoGradGuard no_grad;
  const TemporaryFolder folder;
  for (const std::string& name : fixtures()) {
    INFO(name);
    Pair pair(name, load_fixture(name));
    const int64_t count = pair.network.report().baked_batch > 0 ? pair.network.report().baked_batch : 5;
    at::Tensor x = images(count);
    for (size_t id = 0; id < pair.network.parameters().size(); ++id) {
      if (!pair.network.parameters()[id].trainable) continue;
      pair.change(static_cast<ParameterId>(id));
      x = x.to(pair.network.parameters()[id].value.scalar_type());
    }
    const at::Tensor expected = answer(pair.script, x) * 2;
    insert_doubling(pair.network);
    CHECK(relative_difference(pair.network.output(x), expected) <= kTolerance);
    pair.network.save(folder / "grown.pt");
    torch::jit::Module saved = torch::jit::load((folder / "grown.pt").string());
    CHECK(relative_difference(answer(saved, x), expected) <= kTolerance);
    const auto written = tensors_of(saved);
    for (const auto& item : pair.script.named_parameters())
      CHECK(at::equal(written.at(item.name), item.value));
    const Network again = Network::load(folder / "grown.pt", images(5));
    INFO(again.report().unknown_operator << ": " << again.report().detail);
    REQUIRE(again.importable());
    CHECK(relative_difference(again.output(x), expected) <= kTolerance);
    CHECK(again.parameters().size() >= pair.network.parameters().size());
  }
}

TEST_CASE("prediction and input gradients of every fixture are the network's own") {
  for (const std::string& name : fixtures()) {
    INFO(name);
    const Network network = load_fixture(name);
    const at::Tensor x = images(6).to(network.output(images(2)).scalar_type());
    if (x.scalar_type() == at::kFloat) {
      CHECK(relative_difference(InferenceForm(network, 6).output(x), network.output(x)) <= 1e-5);
    }
    for (const auto of : {InputGradient::Of::output, InputGradient::Of::logits}) {
      const at::AutoGradMode with_grad(true);
      const at::Tensor leaf = x.clone().requires_grad_();
      const at::Tensor values = of == InputGradient::Of::output ? network.differentiable_output(leaf)
                                                                : network.differentiable_logits(leaf);
      at::manual_seed(11);
      const at::Tensor seed = at::randn(values.sizes()).to(values.scalar_type());
      const at::Tensor expected = grad({values}, {leaf}, {seed})[0];
      const at::Tensor found = InputGradient(network, of)(x, [&](const at::Tensor&) { return seed.clone(); });
      CHECK(relative_difference(found, expected) <= 1e-4);
    }
  }
}
