#include "tests/measure/fixture.hpp"

#include "tests/model_files.hpp"

namespace harness::testing {
namespace {

constexpr const char* kModels = R"PY(
import torch
from torch import nn

F = nn.functional
torch.manual_seed(3)


class Pooled(nn.Module):  # few channels into a pooling, padding, windows that overlap and leave the plane
    def __init__(self, last):
        super().__init__()
        self.a = nn.Conv2d(3, 7, (5, 3), padding=(2, 1))
        self.b = nn.Conv2d(7, 20, 3, stride=2)
        self.c = nn.Linear(20 * 3 * 3, 4)
        self.last = last

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.a(x)), 3, 2, 1, ceil_mode=True)
        x = F.relu(self.b(x)).flatten(1)
        x = self.c(x)
        return F.softmax(x, 1) if self.last else x


class Residual(nn.Module):  # batch norm to fold, branches that meet again, strides, a mean over space
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.na = nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.nb = nn.BatchNorm2d(16, affine=False)
        self.c = nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=2)
        self.nc = nn.BatchNorm2d(32)
        self.short = nn.Conv2d(16, 32, 1, stride=2)
        self.d = nn.Linear(32, 10)
        self.nd = nn.BatchNorm1d(10)
        self.e = nn.Linear(10, 4)

    def forward(self, x):
        x = F.relu(self.na(self.a(x)))
        x = F.relu(self.nb(self.b(x)) + x)
        x = F.relu(self.nc(self.c(x)) + self.short(x))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return F.softmax(self.e(F.relu(self.nd(self.d(x)))), 1)


class Dense(nn.Module):  # concatenation, batch norm that cannot be folded, one value read three times
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.n = nn.BatchNorm2d(6)
        self.b = nn.Conv2d(6, 5, 3, padding=1)
        self.m = nn.BatchNorm2d(11)
        self.c = nn.Conv2d(11, 8, 1)
        self.d = nn.Linear(8, 4)

    def forward(self, x):
        x = self.a(x)
        y = torch.cat([x, self.b(F.relu(self.n(x)))], 1)
        y = self.c(F.relu(self.m(y)))
        y = F.avg_pool2d(F.max_pool2d(y, 3, 2, 1), 3)
        return self.d(y.flatten(1))


class Mixed(nn.Module):  # kinds that have no rule of their own
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1, groups=1)
        self.b = nn.Conv2d(8, 8, 3, dilation=2, groups=8)
        self.c = nn.Conv2d(8, 6, 3)
        self.d = nn.Linear(6, 4)
        self.drop = nn.Dropout(0.4)

    def forward(self, x):
        x = (x - 0.3) / 0.7
        x = F.elu(self.a(F.pad(x, (1, 0, 0, 1))))
        x = F.silu(self.b(x)) * torch.sigmoid(x[:, :, 2:11, 2:11])
        x = F.gelu(self.c(x)) + 0.5
        x = F.leaky_relu(self.drop(x), 0.2).permute(0, 2, 3, 1).mean([1, 2])
        return F.log_softmax(torch.tanh(self.d(x)) * 3.0, 1)


class Opaque(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(432, 16)
        self.b = nn.Linear(16, 4)

    def forward(self, x):
        return self.b(torch.erf(self.a(x.flatten(1))))


def write(name, model):
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_()
                module.running_var.uniform_(0.4, 2)
                if module.affine:
                    module.weight.uniform_(-1.5, 1.5)
                    module.bias.normal_()
    torch.jit.save(torch.jit.script(model.eval()), "FOLDER/" + name + ".pt")


write("pooled", Pooled(True))
write("pooled_logits", Pooled(False))
write("residual", Residual())
write("dense", Dense())
write("mixed", Mixed())
write("opaque", Opaque())
saturated = Pooled(True)
with torch.no_grad():
    saturated.c.weight.mul_(10000.0)
write("saturated", saturated)
)PY";

}  // namespace

const std::vector<std::string>& model_names() {
  static const std::vector<std::string> names = {"pooled", "pooled_logits", "residual", "dense",
                                                 "mixed",  "opaque",        "saturated"};
  return names;
}

Network load_model(const std::string& name) {
  return Network::load(models_of(kModels) / (name + ".pt"), some_inputs(3, 99));
}

at::Tensor some_inputs(int64_t count, uint64_t seed) {
  at::manual_seed(seed);
  return at::rand({count, 3, 12, 12});
}

}  // namespace harness::testing
