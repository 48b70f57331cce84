"""Writes the small TorchScript models of the model tests into a folder: NAME_scripted.pt and NAME_traced.pt, and
kind_NAME, files that are no TorchScript.

Images are 3x8x8, four classes, weights seeded. Run as: fixtures.py FOLDER
"""
import pathlib
import sys
import typing
import warnings
import zipfile

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


class Gain(Plain):
    """A parameter without dimensions."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.7))
        self.register_buffer("shift", torch.tensor(0.3))

    def forward(self, x):
        x = torch.relu(self.conv(x)) * self.gain - self.shift
        return self.fc(torch.flatten(F.max_pool2d(x, 2), 1))


class StoredProducts(nn.Module):
    """Dense layers stored (in, out), as converters from Keras and ONNX leave them, in three spellings."""

    def __init__(self):
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.randn(192, 12) / 14), nn.Parameter(torch.randn(12))
        self.w2, self.b2 = nn.Parameter(torch.randn(12, 10) / 4), nn.Parameter(torch.randn(10))
        self.w3 = nn.Parameter(torch.randn(10, 6) / 4)
        self.w4, self.b4 = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(4))

    def forward(self, x):
        x = torch.relu(torch.matmul(x.flatten(1), self.w1) + self.b1)
        x = torch.relu(torch.addmm(self.b2, x, self.w2))
        x = torch.tanh(F.linear(x, self.w3.t()))
        return self.b4 + x @ self.w4


class SharedProduct(nn.Module):
    """The product is read beside its sum with a bias: two values."""

    def __init__(self):
        super().__init__()
        self.w, self.b, self.fc = nn.Parameter(torch.randn(192, 6) / 14), nn.Parameter(torch.randn(6)), nn.Linear(6, 4)

    def forward(self, x):
        y = torch.matmul(x.flatten(1), self.w)
        return self.fc((y + self.b) * torch.sigmoid(y))


class ZeroPadShortcut(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.a(x))
        p = F.avg_pool2d(x, 1, 2)
        z = torch.zeros(p.size(0), 2, p.size(2), p.size(3))
        return self.fc((torch.relu(self.b(x)) + torch.cat([z, p, torch.ones_like(z)], 1)).mean([2, 3]))


class ClassToken(nn.Module):
    """Parameters repeated for every image: joined and added."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 4)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 6, 8))
        self.query = nn.Parameter(torch.randn(8))

    def forward(self, x):
        h = torch.relu(self.conv(x)).flatten(2).transpose(1, 2)
        n = h.shape[0]
        h = torch.cat([self.token.expand(n, -1, -1), h, self.query.expand(n, 1, -1)], 1) + self.place.repeat(n, 1, 1)
        return self.fc(torch.tanh(h * h).mean(1))


class Squeezing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(F.adaptive_avg_pool2d(torch.relu(self.conv(x)), 1).squeeze())


class NormedSqueezing(Squeezing):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)

    def forward(self, x):
        return self.fc(self.norm(F.adaptive_avg_pool2d(torch.relu(self.conv(x)), 1).squeeze()))


class SigmoidTail(Plain):
    def forward(self, x):
        return torch.sigmoid(self.fc(F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1)))


class TiedByData(nn.Module):
    """Two Parameter objects over one memory."""

    def __init__(self):
        super().__init__()
        self.inp, self.first, self.second, self.out = nn.Linear(192, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 4)
        self.second.weight = nn.Parameter(self.first.weight.data)

    def forward(self, x):
        return self.out(torch.relu(self.second(torch.relu(self.first(self.inp(x.flatten(1)))))))


class OneStorage(Plain):
    """All parameters are disjoint parts of one memory."""

    def __init__(self):
        super().__init__()
        flat = nn.utils.parameters_to_vector(self.parameters()).detach().clone()
        nn.utils.vector_to_parameters(flat, self.parameters())


class Overlapping(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(192, 16), nn.Linear(16, 4)
        self.out.bias = nn.Parameter(self.fc.bias.data[2:6])

    def forward(self, x):
        return self.out(torch.relu(self.fc(x.flatten(1))))


class DropoutInPlace(Plain):
    """On a value, on a view of one, and without taking what is returned."""

    def __init__(self):
        super().__init__()
        self.drop, self.hidden = nn.Dropout(0.2, inplace=True), nn.Linear(45, 12)
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        x = self.drop(torch.relu(self.conv(x)))
        x = self.drop(F.max_pool2d(x, 2).flatten(1))
        x = torch.relu(self.hidden(x))
        F.dropout(x, 0.3, self.training, inplace=True)
        return self.fc(x)


class WrittenView(Plain):
    """The in-place operator writes into a view; what it is a view of is not read again."""

    def forward(self, x):
        return self.fc(F.relu_(F.max_pool2d(self.conv(x), 2).flatten(1)))


class Formatted(Plain):
    def __init__(self):
        super().__init__()
        self.channels: int = 3

    def forward(self, x):
        torch._assert(x.shape[1] == self.channels, f"wanted {self.channels} channels, got {x.shape[1]}")
        if x.dim() != 4:
            print("images", x.dim(), x)
        return self.fc(F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1))


class OptionalArguments(Plain):
    def forward(self, x, labels: typing.Optional[torch.Tensor] = None, scale: float = 0.5):
        x = F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1) * scale
        return self.fc(x if labels is None else x + 1)


class Accumulator(Plain):
    """Sums into zeros in place."""

    def forward(self, x):
        x = self.conv(x)
        y = torch.zeros_like(x)
        y += torch.relu(x)
        y += torch.tanh(x)
        return self.fc(F.max_pool2d(y, 2).flatten(1))


class CallCounter(Plain):
    """A buffer that counts calls; nothing comes of it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1.0)
        return self.fc(F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1))


class MutatingBuffer(Plain):
    def __init__(self):
        super().__init__()
        self.register_buffer("k", torch.ones(1))

    def forward(self, x):
        self.k.mul_(3.0)
        return self.fc(F.max_pool2d(torch.relu(self.conv(x) * self.k), 2).flatten(1))


class LoneImage(Plain):
    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1)
        return self.fc(x * 2 if x.shape[0] == 1 else x)


class LargeBatch(Plain):
    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1)
        return self.fc(x * 2 if x.shape[0] > 8 else x)


class Concatenated(Plain):
    def __init__(self):
        super().__init__()
        self.fc, self.fc2 = nn.Linear(45, 2), nn.Linear(45, 2)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1)
        return F.linear(x, torch.cat([self.fc.weight, self.fc2.weight]), torch.cat([self.fc.bias, self.fc2.bias]))


class Stacked(Plain):
    def __init__(self):
        super().__init__()
        self.rows = nn.ParameterList([nn.Parameter(torch.randn(45)) for _ in range(4)])

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1)
        return F.linear(x, torch.stack([row for row in self.rows]))


class ReadNumber(Gain):
    def forward(self, x):
        return self.fc(F.max_pool2d(F.leaky_relu(self.conv(x), float(self.gain)), 2).flatten(1))


class DerivedNumber(Gain):
    def forward(self, x):
        return self.fc(F.max_pool2d(torch.relu(self.conv(x)) * self.gain.abs(), 2).flatten(1))


class DecidedByParameter(Gain):
    def forward(self, x):
        x = torch.relu(self.conv(x))
        if bool(self.gain > 0):
            x = x * 2
        return self.fc(F.max_pool2d(x, 2).flatten(1))


class WrittenWeight(Plain):
    """Through a view of a tensor that is no parameter."""

    def forward(self, x):
        w = torch.zeros(4, 45)
        w[1:3].copy_(self.fc.weight[1:3])
        return F.linear(F.max_pool2d(torch.relu(self.conv(x)), 2).flatten(1), w)


class ReshapedScale(Plain):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(5))

    def forward(self, x):
        return self.fc(F.max_pool2d(torch.relu(self.conv(x) * self.scale.view(1, -1, 1, 1)), 2).flatten(1))


class BothOrientations(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.fc = nn.Parameter(torch.randn(192, 192) / 14), nn.Linear(192, 4)

    def forward(self, x):
        return self.fc(F.linear(torch.relu(x.flatten(1) @ self.w), self.w))


class AveragesBeside(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 4)

    def forward(self, x):
        x = self.bn(self.conv(x)) + torch.sqrt(self.bn.running_var).view(1, 4, 1, 1)
        return self.fc(x.flatten(1))


class OneLogit(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(192, 1)

    def forward(self, x):
        return torch.sigmoid(self.fc(x.flatten(1)))


def rewritten(source, target, old, new):
    """A TorchScript archive with other source text."""
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w") as made:
        for entry in given.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                made.writestr(entry.filename, given.read(entry).replace(old, new))


def other_kinds(folder):
    """Files that people give as models."""
    model = made(Plain)
    torch.save(model.state_dict(), folder / "kind_state_dict")
    torch.save({"epoch": 3, "model": model.state_dict()}, folder / "kind_checkpoint")
    torch.save(model.state_dict(), folder / "kind_old_state_dict", _use_new_zipfile_serialization=False)
    torch.save(nn.Linear(2, 2), folder / "kind_pickled")
    torch.save(nn.Linear(2, 2), folder / "kind_old_pickled", _use_new_zipfile_serialization=False)
    whole = (folder / "plain_scripted.pt").read_bytes()
    (folder / "kind_cut").write_bytes(whole[:len(whole) // 2])
    (folder / "kind_empty").write_bytes(b"")
    (folder / "kind_lfs").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    (folder / "kind_page").write_text("\n<!DOCTYPE html><html><body>Not found</body></html>")
    (folder / "kind_hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (folder / "kind_safetensors").write_bytes((2).to_bytes(8, "little") + b"{}" + bytes(8))
    (folder / "kind_text").write_text("no model")
    for name, entries in dict(exported=["m/archive_format", "m/models/model.json"],
                              keras=["metadata.json", "config.json", "model.weights.h5"], npz=["images.npy"]).items():
        with zipfile.ZipFile(folder / f"kind_{name}", "w") as archive:
            for entry in entries:
                archive.writestr(entry, b"pt2")


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


def main(folder, harmless=False):
    torch.manual_seed(0)
    example = torch.randn(4, 3, 8, 8)
    both = dict(plain=Plain, residual=Residual, dense=Dense, sizes=Sizes, convolutions=Convolutions,
                activations=Activations, pools=Pools, normalise=Normalise, shapes=Shapes, dropouts=Dropouts,
                tied=Tied, products=Products, unknown=Unknown, masked=Masked, mixes=MixesImages, gain=Gain,
                stored_products=StoredProducts, shared_product=SharedProduct, zero_pad=ZeroPadShortcut,
                class_token=ClassToken, squeezing=Squeezing, sigmoid=SigmoidTail, tied_by_data=TiedByData,
                one_storage=OneStorage, dropout_in_place=DropoutInPlace, written_view=WrittenView)
    scripted = dict(branch=Branch, view=WriteToView, trains=TrainsOtherwise, tuple=TupleOutput, dict=DictOutput,
                    logit=OneLogit, dropout_identity=DropoutIdentity, careless=Careless, counting=Counting,
                    formatted=Formatted, optional=OptionalArguments, accumulator=Accumulator, call_counter=CallCounter,
                    mutating=MutatingBuffer, lone=LoneImage, large_batch=LargeBatch, concatenated=Concatenated,
                    stacked=Stacked, read_number=ReadNumber, derived_number=DerivedNumber, decided=DecidedByParameter,
                    written_weight=WrittenWeight, reshaped_scale=ReshapedScale, both_orientations=BothOrientations,
                    averages=AveragesBeside, overlapping=Overlapping, normed_squeezing=NormedSqueezing)
    traced = dict(baked_flatten=BakedFlatten, baked_batch=BakedBatch)

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
    torch.jit.freeze(torch.jit.script(made(Plain))).save(f"{folder}/frozen_scripted.pt")
    model = made(Plain)
    model.fc.bias.data[1] = float("nan")
    torch.jit.script(model).save(f"{folder}/nan_scripted.pt")
    flatten, pool = b"torch.flatten(", b"x0 = _0("
    rewritten(f"{folder}/plain_scripted.pt", f"{folder}/foreign_scripted.pt", flatten, b"ops.torchvision.roll_of_its_own(")
    # Models that do harm when they are run: only for who refuses to.
    harmful = {} if harmless else dict(
        saves=b'torch.save(x, "written")', hidden=b'(torch).save(x, "written")',
        from_file=b'_9 = ops.aten . from_file("absent", False, 3)')
    for name, line in harmful.items():
        rewritten(f"{folder}/plain_scripted.pt", f"{folder}/{name}_scripted.pt", pool, line + b"\n    " + pool)
    other_kinds(pathlib.Path(folder))


if __name__ == "__main__":
    main(sys.argv[1], "harmless" in sys.argv[2:])
