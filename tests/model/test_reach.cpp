#include <cmath>
#include <limits>
#include <set>

#include "harness/core/random.hpp"
#include "harness/model/fast/inference.hpp"
#include "harness/model/fast/input_gradient.hpp"
#include "tests/model/fixtures.hpp"
#include "tests/model_files.hpp"
#include "tests/support.hpp"

// NaN and infinity wherever they sit: in parameters, and in values that a clamp behind them hides.
using namespace harness;
using namespace harness::testing;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr const char* kReachModels = R"PY(
import sys
sys.path.insert(0, "scripts/python")
import torch
from torch import nn
from digits_model import DigitsCnn
from export.architectures import ARCHITECTURES

F = nn.functional


class Clamped(nn.Module):  # each clamp behind a convolution of its own, their values side by side
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 4, 3) for _ in range(8)])
        self.fc = nn.Linear(32, 4)

    def forward(self, x):
        a, b, c, d, e, f, g, h = [conv(x) for conv in self.convs]
        clamped = [F.relu(a), F.relu6(b), F.hardtanh(c, -2.0, 3.0), torch.sigmoid(d), torch.tanh(e),
                   F.hardsigmoid(f), F.softmax(g, 1), F.relu(F.elu(h))]
        return self.fc(torch.cat([F.adaptive_max_pool2d(value, 1).flatten(1) for value in clamped], 1))


class Padded(nn.Module):  # minus infinity on purpose, as some exporters pad before a pooling
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        x = F.max_pool2d(F.pad(F.relu(self.conv(x)), [1, 1, 1, 1], "constant", float("-inf")), 3, 3)
        return self.fc(x.flatten(1))


class Token(nn.Module):  # channels that are a parameter
    def __init__(self):
        super().__init__()
        self.a, self.token, self.b = nn.Conv2d(1, 4, 3), nn.Parameter(torch.zeros(1, 2, 6, 6)), nn.Conv2d(6, 4, 3)
        self.fc = nn.Linear(64, 4)

    def forward(self, x):
        x = torch.cat([F.relu(self.a(x)), self.token.expand(x.shape[0], -1, -1, -1)], 1)
        return self.fc(torch.flatten(F.relu(self.b(x)), 1))


torch.manual_seed(1)
models = {"lenet5": ARCHITECTURES["lenet5"][0](), "resnet20": ARCHITECTURES["resnet20"][0](),
          "digits": DigitsCnn(), "clamped": Clamped(), "padded": Padded(), "token": Token()}
for name, model in models.items():
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    torch.jit.script(model.eval()).save("FOLDER/" + name + ".pt")
)PY";

const std::map<std::string, std::vector<int64_t>> kShapes = {
    {"lenet5", {1, 28, 28}}, {"resnet20", {3, 32, 32}}, {"digits", {1, 8, 8}},
    {"clamped", {1, 8, 8}},  {"padded", {1, 8, 8}},     {"token", {1, 8, 8}}};

at::Tensor inputs_of(const std::string& name, int64_t count) {
  std::vector<int64_t> shape = kShapes.at(name);
  shape.insert(shape.begin(), count);
  at::manual_seed(3);
  return at::rand(shape);
}

Network load(const std::string& name) {
  return Network::load(models_of(kReachModels) / (name + ".pt"), inputs_of(name, 3));
}

// The first node with a value that is not finite, from the values of all nodes.
std::string first_not_finite(const Network& network, const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  std::vector<NodeId> ids(network.nodes().size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<NodeId>(i);
  const std::vector<at::Tensor> values = network.activations(x, ids);
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!values[i].isfinite().all().item<bool>()) return network.nodes()[i].name;
  }
  return "";
}

std::string found_by_form(const Network& network, const at::Tensor& x) {
  std::string node;
  InferenceForm(network, x.size(0)).output(x, &node);
  return node;
}

// In CI a few places; HARNESS_PLACES=20 takes half a minute.
int64_t places() {
  const char* text = std::getenv("HARNESS_PLACES");
  return text == nullptr ? 1 : std::atoll(text);
}

}  // namespace

TEST_CASE("NaN and infinity anywhere in a parameter are found, and so is what they make of the values") {
  for (const std::string name : {"lenet5", "resnet20", "digits"}) {
    const Network network = load(name);
    const at::Tensor x = inputs_of(name, 2);
    REQUIRE(network.not_finite().empty());
    REQUIRE(found_by_form(network, x).empty());
    RandomStream stream(derive_seed(5, name));
    for (const Parameter& parameter : network.parameters()) {
      if (!parameter.value.is_floating_point()) continue;
      const at::Tensor flat = parameter.value.view({-1});
      for (int64_t k = 0; k < places(); ++k) {
        const auto place = static_cast<int64_t>(stream.uniform() * static_cast<double>(flat.numel()));
        for (const double bad : {kNan, k % 2 == 0 ? kInfinity : -kInfinity}) {
          INFO(name << " " << parameter.name << "[" << place << "] = " << bad);
          const at::Tensor before = flat[place].clone();
          flat[place].fill_(bad);
          CHECK(network.not_finite() == std::vector<std::string>{parameter.name});
          CHECK(found_by_form(network, x) == first_not_finite(network, x));
          flat[place].copy_(before);
        }
      }
    }
    CHECK(network.not_finite().empty());
  }
}

TEST_CASE("finite networks whose values overflow are found, at the node where they do") {
  const std::vector<std::string> names = {"lenet5", "resnet20", "digits", "clamped"};
  RandomStream stream(9);
  int64_t overflows = 0, sound = 0;
  for (int64_t k = 0; overflows < 20; ++k) {
    REQUIRE(k < 200);
    const std::string name = names[static_cast<size_t>(k) % names.size()];
    const Network network = load(name);
    const at::Tensor x = inputs_of(name, 2);
    const at::NoGradGuard no_grad;
    std::set<size_t> scaled;  // by up to 1e36 each
    for (int64_t draw = 0; draw < 3; ++draw) {
      const auto id =
          static_cast<size_t>(stream.uniform() * static_cast<double>(network.parameters().size()));
      const Parameter& parameter = network.parameters()[id];
      const double factor = std::pow(10.0, 36 * stream.uniform());
      if (parameter.trainable && scaled.insert(id).second) at::Tensor(parameter.value).mul_(factor);
    }
    REQUIRE(network.not_finite().empty());
    const std::string expected = first_not_finite(network, x);
    INFO(name << ", model " << k << ", overflows at " << expected);
    CHECK(found_by_form(network, x) == expected);
    ++(expected.empty() ? sound : overflows);
  }
  CHECK(sound > 5);
}

TEST_CASE("an infinite value is found behind every clamp") {
  for (int64_t k = 0; k < 8; ++k) {
    const Network network = load("clamped");
    const at::NoGradGuard no_grad;
    const std::string conv = "convs." + std::to_string(k);
    const ParameterId weight = network.find_parameter(conv + ".weight");
    at::Tensor(network.parameters()[static_cast<size_t>(weight)].value).fill_(k % 2 == 0 ? -1e38 : 1e38);
    const at::Tensor x = inputs_of("clamped", 2);
    INFO(conv);
    if (k < 6) CHECK(network.output(x).isfinite().all().item<bool>());  // it is hidden
    CHECK(found_by_form(network, x) == conv);
  }
}

TEST_CASE("a parameter that stands beside the images counts for what may overflow behind it") {
  const Network network = load("token");
  REQUIRE(network.importable());
  const at::Tensor x = inputs_of("token", 2);
  CHECK(found_by_form(network, x).empty());
  for (const auto& [name, value] : {std::pair{"token", 3e38}, std::pair{"b.weight", -2.0}}) {
    at::Tensor(network.parameters()[static_cast<size_t>(network.find_parameter(name))].value).fill_(value);
  }
  CHECK(network.output(x).isfinite().all().item<bool>());  // minus infinity behind ReLU
  CHECK(found_by_form(network, x) == "b");
}

TEST_CASE("minus infinity as padding before a pooling is no fault") {
  const Network network = load("padded");
  REQUIRE(network.importable());
  CHECK(found_by_form(network, inputs_of("padded", 2)).empty());
}

TEST_CASE("watching changes no bit of the output") {
  for (const std::string name : {"plain_scripted", "residual_traced", "dense_scripted", "shapes_scripted",
                                 "pools_traced", "activations_scripted", "double_scripted"}) {
    const Network network = load_fixture(name);
    const InferenceForm form(network, 6);
    for (const int64_t count : {1, 6}) {
      INFO(name);
      std::string node;
      CHECK(at::equal(form.output(images(count)), form.output(images(count), &node)));
      CHECK(node.empty());
    }
  }
}

TEST_CASE("black boxes get a copy of their images, and a lone image answers as in a batch") {
  const Network network = load_fixture("careless_scripted");
  REQUIRE_FALSE(network.importable());
  const at::Tensor x = images(5), before = x.clone();
  const at::Tensor whole = network.output(x);
  CHECK(at::equal(x, before));
  for (int64_t k = 0; k < 5; ++k) {
    CHECK(relative_difference(network.output(x.narrow(0, k, 1)), whole.narrow(0, k, 1)) <= 1e-5);
  }
  const InputGradient gradient(network, InputGradient::Of::output);
  const auto ones = [](const at::Tensor& values) { return at::ones_like(values); };
  const at::Tensor slopes = gradient(x, ones);
  CHECK(slopes.sizes() == x.sizes());
  CHECK(slopes.abs().max().item<double>() > 0);
  CHECK(relative_difference(gradient(x.narrow(0, 2, 1), ones), slopes.narrow(0, 2, 1)) <= 1e-5);
  CHECK(at::equal(x, before));
}

TEST_CASE("what a black box keeps of its images ends with the pass") {
  const Network network = load_fixture("counting_scripted");
  REQUIRE_FALSE(network.importable());
  const at::Tensor x = images(4);
  const auto answer = [&] {
    const InferenceForm form(network, 4);
    form.output(x);
    return form.output(x).clone();
  };
  CHECK(at::equal(answer(), answer()));
}

TEST_CASE("parameters of black boxes have to be finite; masks of minus infinity may be") {
  const Network masked = load_fixture("careless_scripted");
  CHECK(masked.not_finite().empty());
  CHECK(load_fixture("careless_nan_scripted").not_finite() == std::vector<std::string>{"conv.weight"});
}
