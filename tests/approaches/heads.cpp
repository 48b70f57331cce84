#include "tests/approaches/heads.hpp"

#include <map>

#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness::testing {
namespace {

// One network that ends in different ways, all of them with the same answers.
const std::string kBare = R"(
        self.conv = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.a = nn.Linear(48, 8)
        self.b = nn.Linear(8, 4)
    def forward(self, x):
        x = torch.relu(self.conv(x)).flatten(1)
        x = self.b(torch.relu(self.a(x))))";

// Lines of __init__ behind super().__init__(), and forward().
const std::map<std::string, std::string> kDefinitions = {
    // Every operator that intervals know and the fixtures lack.
    {"zoo", R"(
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.deep = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.fc1 = nn.Linear(24, 10)
        self.fc2 = nn.Linear(10, 4)
        self.register_buffer('offset', torch.randn(4, 1, 1))
    def forward(self, x):
        x = F.silu(self.bn(self.conv(x))) - self.offset
        x = x * torch.sigmoid(self.deep(x)) + 0.5 * F.gelu(x) - F.hardswish(x)
        x = torch.cat([F.avg_pool2d(x, 2), F.max_pool2d(F.elu(x), 2), 1 - 2 * F.leaky_relu(x[:, :, ::2, ::2])], 1)
        x = F.pad(F.relu6(x.permute(0, 1, 3, 2)), [1, 0, 0, 0], value=-0.5)
        x = torch.cat([F.adaptive_avg_pool2d(x, 1).flatten(1), x.mean([2, 3])], 1) / 3
        x = F.hardtanh(self.fc1(F.gelu(x, approximate='tanh'))) + F.hardsigmoid(self.fc1(x))
        return self.fc2(torch.softmax(x, 1) + torch.log_softmax(x, 1)))"},
    {"bare", kBare + "\n        return x"},
    {"bare_softmax", kBare + "\n        return torch.softmax(x, 1)"},
    {"bare_log_softmax", kBare + "\n        return torch.log_softmax(x, 1)"},
    {"bare_sigmoid", kBare + "\n        return torch.sigmoid(x)"},
    // Without what has no linear relaxation.
    {"relaxable", R"(
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.bn = nn.BatchNorm2d(3)
        self.deep = nn.Conv2d(3, 3, 3, padding=1)
        self.fc1 = nn.Linear(24, 10)
        self.fc2 = nn.Linear(10, 10)
        self.fc3 = nn.Linear(10, 4)
    def forward(self, x):
        x = torch.relu(self.bn(self.conv(x)))
        x = F.avg_pool2d(torch.tanh(self.deep(x)) + x, 2)
        x = torch.cat([x[:, :, ::2, ::2], 1 - x[:, :, 1::2, 1::2]], 1)
        x = F.leaky_relu(self.fc1(x.flatten(1)), 0.2)
        return self.fc3(torch.sigmoid(self.fc2(x) * 2) - 0.3 * x))"},
    {"two_layer_tail", R"(
        self.fc1 = nn.Linear(128, 12)
        self.fc2 = nn.Linear(12, 9)
        self.drop = nn.Dropout()
        self.fc3 = nn.Linear(9, 4)
    def forward(self, x):
        x = self.drop(torch.relu(self.fc1(x.flatten(1))))
        return self.fc3(self.drop(torch.relu(self.fc2(x)))))"},
    {"deep_tail", R"(
        self.fc1 = nn.Linear(128, 12)
        self.fc2 = nn.Linear(12, 9, bias=False)
        self.fc3 = nn.Linear(9, 7)
        self.fc4 = nn.Linear(7, 4)
    def forward(self, x):
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc3(F.leaky_relu(self.fc2(x), 0.1)))
        return torch.softmax(self.fc4(x), 1))"},
    {"vgg", R"(
        self.a = nn.Linear(128, 6)
        self.b = nn.Linear(6, 6)
        self.c = nn.Linear(6, 4)
    def forward(self, x):
        x = F.dropout(torch.relu(self.a(x.flatten(1))), training=self.training)
        return self.c(torch.relu(self.b(x))))"},
    {"sigmoid_tail", R"(
        self.a = nn.Linear(128, 6)
        self.b = nn.Linear(6, 6)
        self.c = nn.Linear(6, 5)
        self.d = nn.Linear(5, 4)
    def forward(self, x):
        x = torch.relu(self.b(torch.relu(self.a(x.flatten(1)))))
        return self.d(torch.sigmoid(self.c(x))))"},
    {"two_dense", R"(
        self.a = nn.Linear(128, 6)
        self.b = nn.Linear(6, 4)
    def forward(self, x):
        x = x.flatten(1)
        return self.b(torch.tanh(self.a(x))))"},
    {"one_dense", R"(
        self.dense = nn.Linear(128, 4)
    def forward(self, x):
        x = x.flatten(1)
        return self.dense(x))"},
    {"norm_behind", R"(
        self.a = nn.Linear(128, 6)
        self.b = nn.Linear(6, 4)
        self.n = nn.BatchNorm1d(6)
    def forward(self, x):
        x = x.flatten(1)
        return self.b(torch.relu(self.n(self.a(x)))))"},
    {"skip_behind", R"(
        self.a = nn.Linear(128, 6)
        self.b = nn.Linear(6, 4)
        self.c = nn.Linear(6, 6)
    def forward(self, x):
        x = x.flatten(1)
        x = torch.relu(self.a(x))
        return self.b(x + self.c(x)))"},
    {"gelu_tail", R"(
        self.a = nn.Linear(128, 6)
        self.b = nn.Linear(6, 4)
        self.c = nn.Linear(4, 4)
    def forward(self, x):
        x = x.flatten(1)
        return self.c(F.gelu(self.b(torch.relu(self.a(x))))))"},
    {"steep_tail", R"(
        self.a = nn.Linear(128, 6)
        self.b = nn.Linear(6, 4)
        self.c = nn.Linear(4, 4)
    def forward(self, x):
        x = x.flatten(1)
        return self.c(F.leaky_relu(self.b(torch.relu(self.a(x))), 1.5)))"},
};

// One start of Python for all of them: importing PyTorch is what takes long.
const TemporaryFolder& all_files() {
  static const TemporaryFolder folder;
  static const bool made = [] {
    std::string program = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n";
    for (const auto& [name, definition] : kDefinitions) {
      program += "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()" + definition +
                 R"(
torch.manual_seed(4)
net = Net().eval()
with torch.no_grad():
    for p in net.parameters():
        p.mul_(2)
    for m in net.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            m.weight.uniform_(-2, 2)
            m.running_mean.uniform_(-0.5, 0.5)
            m.running_var.uniform_(0.5, 2)
torch.jit.trace(net, torch.zeros(2, 2, 8, 8)).save(')" +
                 (folder / (name + ".pt")).string() + "')\n";
    }
    run_python(program);
    return true;
  }();
  static_cast<void>(made);
  return folder;
}

}  // namespace

const Network& head_network(const std::string& name) {
  static std::map<std::string, Network> loaded;
  const auto found = loaded.find(name);
  if (found != loaded.end()) return found->second;
  const at::Tensor sample = tiny_data().split("repair").inputs(0, 3);
  return loaded.emplace(name, Network::load(all_files() / (name + ".pt"), sample)).first->second;
}

}  // namespace harness::testing
