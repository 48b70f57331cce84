#include "harness/model/autograd.hpp"
#include "harness/model/network.hpp"
#include "tests/model/fixtures.hpp"
#include "tests/support.hpp"

using namespace harness;
using namespace harness::testing;

namespace {

const std::vector<std::string> kModels = {
    "plain_scripted",       "residual_traced",        "dense_scripted",       "convolutions_traced",
    "shapes_scripted",      "tied_scripted",          "normalise_scripted",   "pools_traced",
    "activations_scripted", "stored_products_traced", "class_token_scripted", "zero_pad_traced",
    "gain_scripted",        "sigmoid_traced"};

// Python: loads both files and compares outputs, names and train mode.
std::string compare_in_python(const std::filesystem::path& file, const std::string& extra) {
  return run_python("import torch\nm = torch.jit.load('" + file.string() + "')\n" + extra);
}

}  // namespace

TEST_CASE("prefix and suffix give the logits wherever the network is cut") {
  for (const std::string& name : kModels) {
    const Network network = load_fixture(name);
    const at::Tensor x = images(3), logits = network.logits(x);
    for (NodeId first = 1; first <= network.logits_node(); ++first) {
      INFO(name << " cut before " << network.nodes()[first].name);
      const Cut cut = network.cut_before(first);
      CHECK(at::equal(network.suffix(cut, network.prefix(cut, x)), logits));
    }
  }
}

TEST_CASE("candidates in one batch equal candidates written into the network") {
  at::manual_seed(3);
  for (const std::string& name : kModels) {
    const Network network = load_fixture(name);
    const at::Tensor x = images(4);
    for (size_t id = 1; id < network.nodes().size(); ++id) {
      const Node& node = network.nodes()[id];
      if (node.kind != NodeKind::conv && node.kind != NodeKind::linear) continue;
      const Cut cut = network.cut_before(static_cast<NodeId>(id));
      const auto live = network.prefix(cut, x);
      for (const ParameterId parameter : node.parameters) {
        if (parameter < 0) continue;
        if (network.node_of(parameter) != static_cast<NodeId>(id) || name == "tied_scripted") continue;
        INFO(name << " " << network.parameters()[parameter].name);
        const at::Tensor value = network.parameters()[parameter].value;
        const at::Tensor candidates =
            value.unsqueeze(0) +
            at::randn({3}).reshape({3, 1}).matmul(at::randn({1, value.numel()})).reshape([&] {
              std::vector<int64_t> shape = value.sizes().vec();
              shape.insert(shape.begin(), 3);
              return shape;
            }()) *
                0.1;
        const at::Tensor together = network.candidate_logits(cut, live, parameter, candidates);
        for (int64_t k = 0; k < 3; ++k) {
          Network fork = network.fork();
          fork.set_parameter(parameter, candidates[k]);
          CHECK(relative_difference(together[k], fork.logits(x)) <= 1e-5);
          CHECK(relative_difference(network.suffix(cut, live, {{parameter, candidates[k]}}),
                                    fork.logits(x)) <= 1e-5);
        }
      }
    }
  }
}

TEST_CASE("saved models reload in Python with equal outputs, names and values") {
  // One Python for all of them: starting it takes longer than anything here.
  TemporaryFolder folder;
  std::string program = "import torch\n", expected;
  for (const std::string& name : kModels) {
    INFO(name);
    Network network = load_fixture(name);
    const ParameterId id = 0;
    network.set_parameter(id, network.parameters()[id].value * 1.25);
    const std::filesystem::path saved = folder / (name + ".pt");
    network.save(saved);
    const Network again = Network::load(saved, images(5));
    CHECK(at::equal(again.output(images(6)), network.output(images(6))));
    CHECK(again.digest() == network.digest());
    program +=
        "m, o = (torch.jit.load(f) for f in ('" + saved.string() + "', '" + fixture(name).string() + R"('))
assert list(m.state_dict()) == list(o.state_dict()), (list(m.state_dict()), list(o.state_dict()))
changed = [k for k in o.state_dict() if not torch.equal(o.state_dict()[k], m.state_dict()[k])]
print(changed, all(p.is_leaf for p in m.parameters()), m.training)
)";
    expected += "['" + network.parameters()[id].name + "'] True False\n";
  }
  CHECK(run_python(program) == expected);
}

TEST_CASE("a network with an inserted node is saved as generated TorchScript") {
  TemporaryFolder folder;
  std::string program = "import torch\n";  // one Python for all: starting it takes longer than anything here
  size_t models = 0;
  for (const std::string name :
       {"residual_scripted", "plain_traced", "dense_scripted", "dropouts_scripted", "convolutions_scripted",
        "shapes_traced", "normalise_traced", "pools_scripted", "activations_traced", "tied_scripted",
        "sizes_traced", "products_scripted"}) {
    INFO(name);
    Network network = load_fixture(name);
    const at::Tensor before = network.output(images(4));
    const ParameterId patch = network.add_parameter("patch.0.scale", at::full({1, 4}, 2.0), false);
    Node node;
    node.kind = NodeKind::mul;
    node.name = "patch";
    node.inputs = {network.logits_node()};
    node.parameters = {patch};
    node.attributes = ArithmeticAttributes{};
    const NodeId last = network.logits_node();
    CHECK(network.insert_after(last, node) == last + 1);
    CHECK(network.logits_node() == last + 1);
    if (!network.ends_in_softmax() && std::string(name) != "pools_scripted") {
      CHECK(relative_difference(network.output(images(4)), before * 2) <= 1e-6);
    }
    const std::filesystem::path grown = folder / (name + ".pt");
    network.save(grown);
    const Network again = Network::load(grown, images(5));
    INFO(again.report().unknown_operator << " " << again.report().detail);
    REQUIRE(again.importable());
    CHECK(at::equal(again.output(images(6)), network.output(images(6))));
    program +=
        "m, o = (torch.jit.load(f) for f in ('" + grown.string() + "', '" + fixture(name).string() + R"('))
old = o.state_dict()
old = {k: v for k, v in old.items() if not k.endswith('num_batches_tracked')}
assert all(torch.equal(m.state_dict()[k], v) for k, v in old.items())
x = torch.randn(3, 3, 8, 8)
y = m(x)
m.train()
m(x)
m.eval()
assert 'patch.0.scale' in set(m.state_dict()) - set(o.state_dict()), (o, list(m.state_dict()))
print(y.shape[1])
)";
    ++models;
  }
  std::string expected;
  for (size_t k = 0; k < models; ++k) expected += "4\n";
  CHECK(run_python(program) == expected);
}

TEST_CASE("train mode: batch statistics, running averages, dropout, as PyTorch") {
  for (const std::string name : {"residual_scripted", "residual_traced"}) {
    INFO(name);
    Network network = load_fixture(name);
    const at::Tensor x = images(6);
    network.require_grad(true);
    const at::Tensor logits = network.training_logits(x, 1);
    TemporaryFolder folder;
    network.save(folder / "after.pt");
    // The scripted original in PyTorch: same averages, same logits, same gradient.
    at::Tensor loss = logits.square().sum();
    const ParameterId id = network.find_parameter("conv1.weight");
    const at::Tensor gradient = grad({loss}, {network.parameters()[id].value})[0];
    const std::string answer = compare_in_python(
        folder / "after.pt", "o = torch.jit.load('" + fixture("residual_scripted").string() + R"(')
torch.manual_seed(7)
x = torch.randn(6, 3, 8, 8)
o.train()
y = o(x)
(y * y).sum().backward()
g = dict(o.named_parameters())['conv1.weight'].grad
a, b = o.state_dict(), m.state_dict()
worst = max((a[k] - b[k]).abs().max().item() for k in a if 'running' in k)
print(worst < 1e-5, float(y.detach().square().sum()), float(g.square().sum()))
)");
    std::istringstream words(answer);
    std::string same;
    double square = 0, gradient_square = 0;
    words >> same >> square >> gradient_square;
    CHECK(same == "True");
    CHECK(loss.item<double>() == Approx(square).epsilon(1e-4));
    CHECK(gradient.square().sum().item<double>() == Approx(gradient_square).epsilon(1e-3));
  }
  Network dropouts = load_fixture("dropouts_traced");
  const at::Tensor x = images(4);
  const auto draw = [&](uint64_t seed) { return dropouts.fork().training_logits(x, seed); };
  CHECK(at::equal(draw(5), draw(5)));
  CHECK_FALSE(at::equal(draw(5), draw(6)));
}

TEST_CASE("fork is independent and digest follows values and structure") {
  Network network = load_fixture("residual_scripted");
  Network fork = network.fork();
  CHECK(fork.digest() == network.digest());
  fork.set_parameter(0, fork.parameters()[0].value + 1);
  CHECK(fork.digest() != network.digest());
  CHECK(network.digest() == load_fixture("residual_scripted").digest());
  Network grown = network.fork();
  Node relu;
  relu.kind = NodeKind::relu;
  relu.name = "extra";
  relu.inputs = {2};
  grown.insert_after(2, relu);
  CHECK(grown.digest() != network.digest());
}

TEST_CASE("re-initialisation follows the initialiser and the seed") {
  Network network = load_fixture("residual_scripted");
  Network a = network.fork(), b = network.fork(), c = network.fork();
  a.reinitialise(Initialiser::glorot_uniform, 1);
  b.reinitialise(Initialiser::glorot_uniform, 1);
  c.reinitialise(Initialiser::kaiming_uniform, 2);
  CHECK(a.digest() == b.digest());
  CHECK(a.digest() != c.digest());
  const auto value = [](const Network& of, const char* name) {
    return of.parameters()[of.find_parameter(name)].value;
  };
  const double limit = std::sqrt(6.0 / (6 * 9 + 6 * 9));
  CHECK(value(a, "conv1.weight").abs().max().item<double>() <= limit);
  CHECK(value(a, "conv1.weight").abs().max().item<double>() > 0.9 * limit);
  CHECK(at::equal(value(a, "fc.bias"), at::zeros({4})));
  CHECK(value(c, "fc.weight").abs().max().item<double>() <= 1 / std::sqrt(6.0));
  CHECK(at::equal(value(a, "bn1.weight"), at::ones({6})));
  CHECK(at::equal(value(a, "bn2.running_var"), at::ones({6})));
}

TEST_CASE("activations and gradients at any node") {
  Network network = load_fixture("plain_scripted");
  const at::Tensor x = images(2);
  const auto values = network.activations(x, {0, 2, 5});
  CHECK(at::equal(values[0], x));
  CHECK(at::equal(values[2], network.logits(x)));
  CHECK((values[1] >= 0).all().item<bool>());
  network.require_grad(true);
  const at::Tensor loss = network.differentiable_logits(x).sum();
  const ParameterId bias = network.find_parameter("fc.bias");
  CHECK(at::equal(grad({loss}, {network.parameters()[bias].value})[0], at::full({4}, 2.0)));
}
