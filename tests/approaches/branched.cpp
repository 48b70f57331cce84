#include "tests/approaches/branched.hpp"

#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness::testing {
namespace {

const char* const kBranchedProgram = R"(
import torch
from torch import nn

class Branched(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.fc1 = nn.Linear(16, 6)
        self.shared = nn.Linear(6, 6)
        self.fc2 = nn.Linear(6, 4)
    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.max_pool2d(torch.relu(self.bn2(self.conv2(x)) + x), 2)
        x = torch.max_pool2d(torch.relu(self.grouped(x)), 2)
        x = torch.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(self.shared(torch.tanh(self.shared(x))))

torch.manual_seed(8)
net = Branched().eval()
with torch.no_grad():
    for p in net.parameters():
        p.mul_(2)
    for bn in (net.bn1, net.bn2):
        bn.weight.uniform_(0.5, 2)
        bn.bias.uniform_(-1, 1)
        bn.running_mean.uniform_(-0.5, 0.5)
        bn.running_var.uniform_(0.5, 2)
torch.jit.script(net).save('@')
)";

Network make() {
  const TemporaryFolder folder;
  std::string program = kBranchedProgram;
  program.replace(program.find('@'), 1, (folder / "branched.pt").string());
  run_python(program);
  return Network::load(folder / "branched.pt", tiny_data().split("repair").inputs(0, 3));
}

}  // namespace

const Network& branched_network() {
  static const Network made = make();
  return made;
}

}  // namespace harness::testing
