#include "tests/approaches/heads.hpp"

#include "tests/approaches/fixture.hpp"
#include "tests/support.hpp"

namespace harness::testing {

Network head_network(const std::string& definition) {
  const TemporaryFolder folder;
  const std::string program = R"(
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
)" + definition + R"(

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
                              (folder / "net.pt").string() + "')\n";
  run_python(program);
  return Network::load(folder / "net.pt", tiny_data().split("repair").inputs(0, 3));
}

}  // namespace harness::testing
