#include "tests/approaches/headed.hpp"

#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness::testing {
namespace {

const char* const kHeadedProgram = R"(
import torch
from torch import nn

def stem():
    return [nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2)]

class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(*stem(), nn.Flatten())
        self.fc1 = nn.Linear(16, 8)
        self.fc2 = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)
    def forward(self, x):
        h = torch.relu(self.fc1(self.stem(x)))
        return self.head(h + torch.relu(self.fc2(h)))

torch.manual_seed(21)
nets = {
    'headed': nn.Sequential(*stem(), nn.Flatten(), nn.Linear(16, 12, bias=False), nn.BatchNorm1d(12), nn.ReLU(),
                            nn.Dropout(0.5), nn.Linear(12, 7), nn.Linear(7, 9), nn.LeakyReLU(0.2), nn.Linear(9, 4)),
    'pooled': nn.Sequential(*stem(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 4)),
    'convolved': nn.Sequential(*stem(), nn.Conv2d(4, 4, 2), nn.Flatten()),
    'sigmoid': nn.Sequential(*stem(), nn.Flatten(), nn.Linear(16, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.ReLU(),
                             nn.Linear(8, 4)),
    'skipping': Skipping(),
}
for name, net in nets.items():
    net.eval()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
        for m in net.modules():
            if isinstance(m, nn.BatchNorm1d):
                m.bias.uniform_(-1, 1)
                m.running_mean.uniform_(-0.5, 0.5)
                m.running_var.uniform_(0.5, 2)
    torch.jit.script(net).save('@/' + name + '.pt')
)";

std::map<std::string, Network> make_headed() {
  const TemporaryFolder folder;
  std::string program = kHeadedProgram;
  program.replace(program.find('@'), 1, folder.path().string());
  run_python(program);
  std::map<std::string, Network> networks;
  for (const std::string name : {"headed", "pooled", "convolved", "sigmoid", "skipping"}) {
    networks.emplace(name, Network::load(folder / (name + ".pt"), tiny_data().split("repair").inputs(0, 3)));
  }
  return networks;
}

}  // namespace

const Network& headless_network(const std::string& name) {
  static const std::map<std::string, Network> made = make_headed();
  return made.at(name);
}

const Network& headed_network() {
  return headless_network("headed");
}

}  // namespace harness::testing
