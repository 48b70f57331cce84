"""The models and raw inputs of a packed folder, made where it is packed: torch, numpy and h5py are needed here."""

import h5py
import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional

import digits_model
from export import torchscript

SHAPE = (2, 1, 8, 8)
EPOCHS = 10


class Regularised(nn.Module):
    """With dropout of values and of channels."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 16, 3, padding=1)
        self.channels, self.values = nn.Dropout2d(0.1), nn.Dropout(0.3)
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = self.channels(functional.max_pool2d(functional.relu(self.conv2(x)), 2))
        return self.fc2(self.values(functional.relu(self.fc1(torch.flatten(x, 1)))))


class Normalised(nn.Module):
    """Batch norm with and without weights of its own, and a residual sum."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12, affine=False)
        self.fc1 = nn.Linear(192, 24)
        self.bn3 = nn.BatchNorm1d(24)
        self.fc2 = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(functional.relu(self.bn2(self.conv2(x)) + x), 2)
        return self.fc2(functional.relu(self.bn3(self.fc1(torch.flatten(x, 1)))))


class Constant(nn.Module):
    """A black box, as its flow depends on values; makes tensors without naming a device, and holds some in a list."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        self.shifts = [torch.zeros(8), torch.full((8,), 0.01)]

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > -1e30):
            x = x + self.shifts[1] * torch.arange(8)
        return self.inner(x) + torch.ones(10, device="cpu")


class Wide(nn.Module):
    """Values of 4.7 MB an image, more in one batch than a GPU that others use has left."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 512, 3, padding=1)
        self.fc = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv(functional.pad(x, [20, 20, 20, 20])))
        return self.fc(x.mean([2, 3]))


def trained(model, images, labels):
    torch.manual_seed(digits_model.SEED)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model.eval()


def is_random(file):
    """Whether a model answers differently when it is asked twice: no device is to be compared on such a one."""
    x = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        try:
            model = torch.jit.load(str(file)).eval()
            first, second = model(x), model(x)
        except (RuntimeError, ValueError):  # an operator, type or shape that the harness refuses, too; or no model
            return False
    return isinstance(first, Tensor) and not torch.equal(first, second)


def make(data, digits, out):
    """Fills OUT/subjects, OUT/data: networks of the digits in the file `data`, and attack inputs as plain files."""
    torch.set_num_threads(1)
    (out / "subjects").mkdir(parents=True)
    (out / "data").mkdir()
    with h5py.File(data, "r") as handle:
        splits = {name: digits_model.read_split(handle, name) for name in ("train", "test")}
    plain = torch.jit.load(str(digits)).eval()
    inner = digits_model.DigitsCnn()
    inner.load_state_dict(plain.state_dict())
    wide = Wide().eval()
    earlier = digits_model.DigitsCnn()  # an epoch that there might have been
    earlier.load_state_dict({name: value * 0.9 for name, value in plain.state_dict().items()})
    networks = {"digits_earlier": earlier, "dropout": trained(Regularised(), *splits["train"]),
                "batchnorm": trained(Normalised(), *splits["train"]), "constant": Constant(inner).eval(), "wide": wide}
    for name, network in networks.items():
        torchscript.export(network, SHAPE, out / "subjects" / f"{name}.pt", False, name)
    with torch.no_grad():
        right = plain(splits["test"][0]).argmax(1) == splits["test"][1]
    images, labels = (part[right].contiguous() for part in splits["test"])
    images.numpy().astype(numpy.float32).tofile(out / "data" / "digits.inputs")
    labels.numpy().astype(numpy.int64).tofile(out / "data" / "digits.labels")
    return {"attacked": ",".join(map(str, images.shape)), "low": float(images.min()), "high": float(images.max())}
