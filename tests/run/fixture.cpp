#include "tests/run/fixture.hpp"

#include "harness/pool/worker.hpp"

namespace harness::testing {
namespace {

const char* const kProgram = R"(
import h5py, numpy as np, torch
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(16, 8)
        self.b = nn.Linear(8, 3)
    def forward(self, x):
        return torch.softmax(self.b(torch.relu(self.a(x.flatten(1)))), 1)

torch.manual_seed(2)
net = Small().eval()
with torch.no_grad():
    for p in net.parameters():
        p.mul_(4)
torch.jit.script(net).save('@/small.pt')
rng = np.random.default_rng(3)
with h5py.File('@/small.h5', 'w') as f:
    f.attrs['classes'] = 3
    f.attrs['divisor'] = 1.0
    f.attrs['mean'] = np.zeros(1)
    f.attrs['std'] = np.ones(1)
    for name, n in (('repair', 40), ('test', 50)):
        x = rng.normal(size=(n, 1, 4, 4)).astype('float32')
        with torch.no_grad():
            y = net(torch.tensor(x)).argmax(1).numpy()
        y = np.where(np.arange(n) % 5 == 0, (y + 1) % 3, y)
        f.create_dataset(name + '/images', data=x)
        f.create_dataset(name + '/labels', data=y.astype('int64'))
)";

struct Small {
  TemporaryFolder folder;
  std::filesystem::path model = folder / "small.pt", data = folder / "small.h5";

  Small() {
    std::string program = kProgram;
    for (size_t at; (at = program.find('@')) != std::string::npos;) {
      program.replace(at, 1, folder.path().string());
    }
    run_python(program);
  }
};

const Small& small() {
  static const Small made;
  return made;
}

[[maybe_unused]] const bool kWorkerEntry = [] {
  worker_entry = pool::run_worker;
  return true;
}();

}  // namespace

const std::filesystem::path& model_file() {
  return small().model;
}
const std::filesystem::path& data_file() {
  return small().data;
}

bool add_approach(const std::string& key, Fix fix, const std::string& needs) {
  return register_approach({.info = {.key = key, .name = "Test " + key, .needs = {needs}},
                            .adapt = [](const FixRequest&) { return std::nullopt; },
                            .fix = std::move(fix)});
}

FixResult no_fix() {
  return {};
}

FixResult unchanged(const Network& original) {
  FixResult result;
  result.network = original.fork();
  return result;
}

}  // namespace harness::testing
