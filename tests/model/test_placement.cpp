#include "harness/core/error.hpp"
#include "tests/model/fixtures.hpp"
#include "tests/support.hpp"

namespace harness {
namespace {

using testing::images;

// Black boxes (cumsum is no layer) whose code makes or holds tensors of its own, in the ways there are.
const char* const kProgram = R"(
import warnings
import torch
from torch import nn, Tensor
from typing import Dict, List
warnings.filterwarnings('ignore')

class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(192, 4)

class Factory(Base):
    def forward(self, x):
        x = torch.cumsum(x, 2) + torch.ones(8) * torch.arange(8)
        return self.fc(x.flatten(1))

class NamedDevice(Base):
    def forward(self, x):
        x = torch.cumsum(x, 2) + torch.full((1, 3, 8, 8), 0.5, device='cpu')
        return self.fc(x.flatten(1)) + torch.tensor([1.0, 2.0, 3.0, 4.0])

class Held(Base):
    tables: List[Tensor]
    named: Dict[str, Tensor]
    def __init__(self):
        super().__init__()
        self.tables = [torch.rand(8), torch.rand(8)]
        self.named = {'shift': torch.rand(3, 8, 8)}
        self.plain = torch.rand(8)
    def forward(self, x):
        for table in self.tables:
            x = torch.cumsum(x, 2) * table
        return self.fc((x + self.named['shift'] + self.plain).flatten(1))

class Copied(Base):
    def forward(self, x):
        x = torch.cumsum(x, 2)
        return self.fc(x.flatten(1)) + x.flatten(1).cpu()[:, :4]

torch.manual_seed(3)
example = torch.randn(4, 3, 8, 8)
for name, kind in dict(factory=Factory, named=NamedDevice, held=Held, copied=Copied).items():
    model = kind().eval()
    torch.jit.script(model).save(f'@/{name}_scripted.pt')
    if name != 'copied':
        torch.jit.trace(model, example).save(f'@/{name}_traced.pt')
        torch.jit.freeze(torch.jit.script(model)).save(f'@/{name}_frozen.pt')
)";

TEST_CASE("a black box goes to a device with the constants of its code, or is refused by name") {
  const testing::TemporaryFolder folder;
  std::string program = kProgram;
  for (size_t at; (at = program.find('@')) != std::string::npos;)
    program.replace(at, 1, folder.path().string());
  testing::run_python(program);
  const at::Tensor x = images(6);
  for (const std::string name : {"factory", "named", "held"}) {
    for (const std::string form : {"scripted", "traced", "frozen"}) {
      INFO(name << ' ' << form);
      Network network = Network::load(folder / (name + "_" + form + ".pt"), images(5));
      REQUIRE_FALSE(network.importable());
      const Network before = network.fork();
      const at::Tensor expected = before.output(x);
      // The meta device refuses operations between devices, as CUDA does.
      network.to(at::kMeta);
      REQUIRE(network.output(x.to(at::kMeta)).device().is_meta());
      REQUIRE(network.fork().output(x.to(at::kMeta)).sizes() == expected.sizes());
      REQUIRE(at::equal(before.output(x), expected));  // the graph it shares with its fork is as it was
    }
  }
  Network copied = Network::load(folder / "copied_scripted.pt", images(5));
  try {
    copied.to(at::kMeta);
    FAIL("a model that copies to the CPU went to another device");
  } catch (const UserError& error) {
    const Problem& problem = error.problems().at(0);
    INFO(error.what());
    REQUIRE(problem.file == (folder / "copied_scripted.pt").string());
    REQUIRE(problem.place.rfind("aten::cpu in line", 0) == 0);
    REQUIRE(problem.expected == "a model that runs on meta");
    REQUIRE_FALSE(problem.found.empty());
    REQUIRE_FALSE(problem.suggestion.empty());
  }
}

}  // namespace
}  // namespace harness
