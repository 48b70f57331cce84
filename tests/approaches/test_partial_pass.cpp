#include "approaches/search/partial_pass.hpp"
#include "tests/approaches/branched.hpp"
#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::branched_network;
using testing::run_python;
using testing::TemporaryFolder;
using testing::tiny_data;
using testing::tiny_network;

constexpr int kNetworks = 12;

// Networks of random blocks: plain and grouped convolutions, batch norm, residual sums, dense connections,
// pooling, and one to three dense layers.
const char* const kPartialProgram = R"(
import random
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, kind, channels, draw):
        super().__init__()
        self.kind = kind
        groups = 2 if kind == 'grouped' else 1
        self.out = 4 if kind == 'dense' else channels if kind == 'residual' else draw.choice([4, 6])
        self.conv = nn.Conv2d(channels, self.out, draw.choice([1, 3]) if kind == 'plain' else 3,
                              padding=0 if kind == 'plain' else 1, groups=groups, bias=draw.random() < 0.5)
        self.norm = nn.BatchNorm2d(self.out) if draw.random() < 0.5 else nn.Identity()
        self.act = draw.choice([nn.ReLU(), nn.LeakyReLU(0.1), nn.Tanh()])
        self.total = self.out + channels if kind == 'dense' else self.out
    def forward(self, x):
        y = self.norm(self.conv(x))
        if self.kind == 'residual':
            return self.act(y + x)
        if self.kind == 'dense':
            return torch.cat([x, self.act(y)], 1)
        return self.act(y)

def make(seed):
    draw = random.Random(seed)
    torch.manual_seed(seed)
    layers, channels = [], 2
    for depth in range(3):
        kind = draw.choice(['plain', 'grouped', 'residual', 'dense']) if depth else 'plain'
        block = Block(kind, channels, draw)
        layers.append(block)
        channels = block.total
        if depth == 1:
            layers.append(draw.choice([nn.MaxPool2d(2), nn.AvgPool2d(2)]))
    layers += [draw.choice([nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(2)]), nn.Flatten()]
    net = nn.Sequential(*layers)
    width = net(torch.zeros(2, *SHAPE)).shape[1]
    for _ in range(draw.choice([0, 1, 2])):
        net.append(nn.Linear(width, 10))
        net.append(nn.ReLU())
        width = 10
    net.append(nn.Linear(width, 4))
    if draw.random() < 0.3:
        net.append(nn.Softmax(1))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.running_var):
                values.uniform_(0.5, 2)
            for values in (module.bias.data, module.running_mean):
                values.uniform_(-0.5, 0.5)
    return net.eval()

for seed in range(COUNT):
    torch.jit.trace(make(seed), torch.rand(3, *SHAPE)).save('FOLDER/%d.pt' % seed)
)";

std::vector<Network> random_networks() {
  const TemporaryFolder folder;
  const at::Tensor sample = tiny_data().split("repair").inputs(0, 3);
  std::string program = kPartialProgram, shape = "(";
  for (const int64_t size : sample.sizes().slice(1)) shape += std::to_string(size) + ",";
  const auto put = [&](const std::string& word, const std::string& value) {
    for (size_t at = 0; (at = program.find(word)) != std::string::npos;)
      program.replace(at, word.size(), value);
  };
  put("SHAPE", shape + ")");
  put("COUNT", std::to_string(kNetworks));
  put("FOLDER", (folder / ".").string());
  run_python(program);
  std::vector<Network> networks;
  for (int k = 0; k < kNetworks; ++k) {
    networks.push_back(Network::load(folder / (std::to_string(k) + ".pt"), sample));
  }
  return networks;
}

// Some weights of one to three layers, in random order.
std::vector<WeightRef> some_weights(const Network& network, RandomStream& stream) {
  const std::vector<TargetLayer> layers = target_layers(network);
  std::vector<TargetLayer> some;
  const int64_t maximum = std::min<int64_t>(3, static_cast<int64_t>(layers.size()));
  for (const int64_t l : stream.sample(static_cast<int64_t>(layers.size()), stream.below(maximum) + 1)) {
    some.push_back(layers[static_cast<size_t>(l)]);
  }
  return random_weights(network, some, stream.below(6) + 1, stream);
}

double compare(const Network& network, RandomStream& stream, int64_t* narrow) {
  const Split& split = tiny_data().split("repair");
  const at::Tensor x = split.inputs(0, 40);
  double worst = 0;
  for (int round = 0; round < 25; ++round) {
    const std::vector<WeightRef> weights = some_weights(network, stream);
    const std::vector<float> own = read_weights(network, weights);
    std::vector<double> values;
    for (const float value : own) values.push_back(value + 0.7 * stream.normal());
    Network changed = network.fork();
    apply_edits(changed, edits_of(weights, values));
    const at::Tensor expected = changed.logits(x);
    const at::Tensor clean = network.logits(x);
    const double scale = expected.abs().max().item<double>();
    const auto kernels = overrides(network, edits_of(weights, values));
    int64_t kept[2] = {};
    for (const bool is_narrow : {false, true}) {
      const search::PartialPass pass(network, weights, is_narrow);
      const auto prepared = pass.prepare(network.activations(x, pass.reads()));
      for (const at::Tensor& value : prepared) kept[is_narrow] += value.numel();
      CHECK(pass.values_per_input() * x.size(0) == kept[is_narrow]);
      const at::Tensor found = pass.logits(prepared, kernels);
      worst = std::max(worst, (found - expected).abs().max().item<double>() / scale);
      // a second call must find the prepared values as the first one did
      REQUIRE(at::equal(pass.logits(prepared, kernels), found));
      const at::Tensor top = std::get<0>(expected.topk(2, 1));
      const at::Tensor clear = (top.select(1, 0) - top.select(1, 1)) > 1e-5 * scale;
      CHECK(at::logical_or(found.argmax(1) == expected.argmax(1), ~clear).all().item<bool>());
    }
    *narrow += kept[0] != kept[1];
    CHECK(at::equal(clean, network.logits(x)));
  }
  return worst;
}

TEST_CASE("changed weights give the logits of the network that carries them") {
  RandomStream stream(31);
  int64_t narrow = 0;
  CHECK(compare(tiny_network(), stream, &narrow) < 1e-5);
  CHECK(compare(branched_network(), stream, &narrow) < 1e-5);
  for (const Network& network : random_networks()) CHECK(compare(network, stream, &narrow) < 1e-5);
  CHECK(narrow > 100);  // of 350 edits many do take the narrow way
}

}  // namespace
}  // namespace harness
