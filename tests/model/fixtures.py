"""Writes the small TorchScript models of the model tests into a folder: NAME_scripted.pt and NAME_traced.pt.

Images are 3x8x8, four classes, weights seeded. Run as: fixtures.py FOLDER
"""
import sys
import warnings

import torch
import torch.nn.functional as F
from torch import nn

warnings.filterwarnings("ignore")


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.fc = nn.Linear(5 * 9, 4)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.fc(torch.flatten(x, 1))


class Residual(nn.Module):
    """In-place operators rebind every holder: relu_ and +=."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.conv1 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6, affine=False)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        x = self.stem(x)
        out = F.relu_(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        out = F.relu(out, inplace=True)
        return self.fc(out.mean([2, 3]))


class Dense(nn.Module):
    """Lists keep their identity: append in a loop, concatenated at the end."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3 + 2 * i, 2, 3, padding=1) for i in range(3)])
        self.fc = nn.Linear(9, 4)

    def forward(self, x):
        features = [x]
        for layer in self.layers:
            features.append(torch.relu(layer(torch.cat(features, 1))))
        return self.fc(F.adaptive_avg_pool2d(torch.cat(features, 1), (1, 1)).flatten(1))


class Sizes(nn.Module):
    """The batch size travels through size(), arithmetic and view."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.fc = nn.Linear(36, 4)

    def forward(self, x):
        x = self.conv(x)
        count = x.size(1) * x.size(2) * x.size(3)
        x = x.view(x.shape[0], count)
        return self.fc(x.reshape(-1, 36).contiguous())


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.depthwise = nn.Conv2d(3, 6, 3, groups=3, padding=1)
        self.same_even = nn.Conv2d(6, 6, 4, padding="same", dilation=1)
        self.same_odd = nn.Conv2d(6, 6, 3, padding="same", dilation=2, groups=2)
        self.valid = nn.Conv2d(6, 4, (1, 3), padding="valid", stride=(2, 1))
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        x = self.valid(self.same_odd(self.same_even(self.depthwise(x))))
        return self.fc(x.mean(-1).mean(-1))


class Activations(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.stack = nn.Sequential(nn.ReLU6(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SiLU(), nn.GELU(),
                                   nn.GELU(approximate="tanh"), nn.Hardtanh(-0.5, 0.8), nn.Hardswish(),
                                   nn.Hardsigmoid(), nn.SELU(), nn.Tanh(), nn.Sigmoid())
        self.fc = nn.Linear(256, 4)

    def forward(self, x):
        x = self.conv(x).clamp(min=0).clamp(0, 6)
        return torch.softmax(self.fc(self.stack(x).flatten(1)), dim=-1)


class Pools(nn.Module):
    def __init__(self):
        super().__init__()
        self.pools = nn.Sequential(nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), nn.AvgPool2d(2, 1, count_include_pad=False),
                                   nn.AdaptiveMaxPool2d((3, 2)))
        self.fc = nn.Linear(18, 4)

    def forward(self, x):
        x = self.pools(x)
        return F.log_softmax(self.fc(x.flatten(1)), 1)


class Normalise(nn.Module):
    """Constants in the graph: buffers, numbers on either side."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.5, 0.6, 0.7]).view(1, 3, 1, 1))
        self.scale = nn.Parameter(torch.tensor([1.5, 0.5, 2.0]).view(3, 1, 1))
        self.fc = nn.Linear(192, 4)

    def forward(self, x):
        x = (x - self.mean) / self.std
        x = 1.0 - x * self.scale
        x = -x / 2 + 3
        x = 2.0 / (x * x + 1)
        return self.fc(x.flatten(1))


class Shapes(nn.Module):
    """Channel shuffle, permute, slice, select, chunk, pad."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.fc = nn.Linear(8 * 25, 4)

    def forward(self, x):
        x = self.conv(x)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        a, b = x.chunk(2, 1)
        x = torch.cat([b, a * a], 1)
        x = x.permute(0, 2, 3, 1)[:, 1:7:2, :, :].permute(0, 3, 1, 2)
        x = F.pad(x, (1, 1, 1, 1), "reflect")
        x = F.pad(x[:, :, :, 2:7], [0, 0, 0, 0], value=1.0)
        y = x[:, 0].unsqueeze(1)
        return self.fc((x + y).flatten(1))


class Dropouts(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4, momentum=0.3)
        self.drop2d = nn.Dropout2d(0.4)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(144, 4)

    def forward(self, x):
        x = self.bn(self.conv(x))
        y = torch.tanh(x)
        x = F.relu(self.drop2d(x) + y, inplace=True)
        return self.fc(self.drop(x.flatten(1)))


class DropoutIdentity(Dropouts):
    """In evaluation mode dropout returns its own input: the two must stay two values."""

    def forward(self, x):
        x = self.bn(self.conv(x))
        x = F.relu(self.drop2d(x) + x, inplace=True)
        return self.fc(self.drop(x.flatten(1)))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(192, 16)
        self.first = nn.Linear(16, 16)
        self.second = nn.Linear(16, 16)
        self.second.weight = self.first.weight
        self.out = nn.Linear(16, 4)

    def forward(self, x):
        return self.out(torch.relu(self.second(torch.relu(self.first(self.inp(x.flatten(1)))))))


class Products(nn.Module):
    """Linear layers written as matrix products."""

    def __init__(self):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(10, 192) / 14)
        self.b1 = nn.Parameter(torch.randn(10))
        self.w2 = nn.Parameter(torch.randn(4, 10))

    def forward(self, x):
        x = torch.addmm(self.b1, x.flatten(1), self.w1.t())
        return torch.matmul(torch.tanh(x), self.w2.t())


class Branch(Plain):
    def forward(self, x):
        if bool(x.sum() > 0):
            x = x * 2
        return self.fc(F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1))


class Unknown(Plain):
    def forward(self, x):
        x = torch.cumsum(x, 2)
        return self.fc(F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1))


class WriteToView(Plain):
    def forward(self, x):
        x = self.conv(x)
        y = x.flatten(1)
        y.relu_()
        return self.fc(F.max_pool2d(x, 2).flatten(1))


class Masked(Plain):
    def forward(self, x):
        x = F.conv2d(x, self.conv.weight * 0.5, self.conv.bias)
        return self.fc(F.max_pool2d(torch.relu(x), 2).flatten(1))


class TrainsOtherwise(Plain):
    def forward(self, x):
        x = torch.relu(self.conv(x))
        if self.training:
            x = x * 2
        return self.fc(F.max_pool2d(x, 2).flatten(1))


class MixesImages(Plain):
    def forward(self, x):
        x = x - x.mean([0], keepdim=True)
        return self.fc(F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1))


class BakedFlatten(Plain):
    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.fc(x.view(4, -1))


class BakedBatch(Plain):
    def forward(self, x):
        x = x + torch.ones(4, 3, 8, 8)
        return self.fc(F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1))


class Careless(Plain):
    """A black box (its values decide the flow) that writes to its input, squeezes and has a mask as a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.tensor([0.0, float("-inf"), float("-inf"), float("-inf")]))

    def forward(self, x):
        x.sub_(0.1)
        if bool(x.abs().max() > 1e6):
            x = x * 0.5
        weights = torch.softmax(self.mask, 0)
        features = F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1).unsqueeze(2).squeeze()
        return F.linear(features, self.fc.weight, self.fc.bias + weights)


class Counting(Plain):
    """Its answer depends on how often it was asked."""

    def __init__(self):
        super().__init__()
        self.register_buffer("asked", torch.ones(1))

    def forward(self, x):
        self.asked.mul_(3.0)
        if bool(x.abs().max() > 1e6):
            x = x * 0.5
        return self.fc(F.max_pool2d(torch.relu(self.conv(x * self.asked)), 2).flatten(1))


class TupleOutput(Plain):
    def forward(self, x):
        y = self.fc(F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1))
        return y, x


class DictOutput(Plain):
    def forward(self, x):
        return {"logits": self.fc(F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1))}


class OneLogit(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(192, 1)

    def forward(self, x):
        return torch.sigmoid(self.fc(x.flatten(1)))


def main(folder):
    torch.manual_seed(0)
    example = torch.randn(4, 3, 8, 8)
    both = dict(plain=Plain, residual=Residual, dense=Dense, sizes=Sizes, convolutions=Convolutions,
                activations=Activations, pools=Pools, normalise=Normalise, shapes=Shapes, dropouts=Dropouts,
                tied=Tied, products=Products, unknown=Unknown, masked=Masked, mixes=MixesImages)
    scripted = dict(branch=Branch, view=WriteToView, trains=TrainsOtherwise, tuple=TupleOutput, dict=DictOutput,
                    logit=OneLogit, dropout_identity=DropoutIdentity, careless=Careless, counting=Counting)
    traced = dict(baked_flatten=BakedFlatten, baked_batch=BakedBatch)

    def made(kind):
        model = kind()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                if module.affine:
                    module.weight.data.uniform_(0.5, 2)
                    module.bias.data.normal_()
        return model.eval()

    for name, kind in both.items():
        model = made(kind)
        torch.jit.script(model).save(f"{folder}/{name}_scripted.pt")
        torch.jit.trace(model, example).save(f"{folder}/{name}_traced.pt")
    for name, kind in scripted.items():
        torch.jit.script(made(kind)).save(f"{folder}/{name}_scripted.pt")
    for name, kind in traced.items():
        torch.jit.trace(made(kind), example, check_trace=False).save(f"{folder}/{name}_traced.pt")
    torch.jit.trace(made(Dropouts).train(), example, check_trace=False).save(f"{folder}/train_mode_traced.pt")
    model = made(Careless)
    model.conv.weight.data[1, 2, 0, 1] = float("nan")
    torch.jit.script(model).save(f"{folder}/careless_nan_scripted.pt")
    torch.jit.script(made(Plain).half()).save(f"{folder}/half_scripted.pt")
    torch.jit.script(made(Plain).double()).save(f"{folder}/double_scripted.pt")
    quantised = torch.ao.quantization.quantize_dynamic(made(Plain), {nn.Linear}, dtype=torch.qint8)
    torch.jit.script(quantised).save(f"{folder}/quantised_scripted.pt")


if __name__ == "__main__":
    main(sys.argv[1])
