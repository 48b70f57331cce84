"""The other side of the comparisons: PyTorch in eager mode, attacked by foolbox or by a tight loop.

foolbox is no dependency of the harness; it is looked for in a folder of its own (.cache/foolbox).
"""

import importlib.util
import subprocess
import sys
import time

import h5py
import numpy
import torch

from common.errors import UserError
from export import packaged
from export.architectures import ARCHITECTURES

VERSION = "3.3.4"
# By name and without their needs: torch, numpy and scipy are there already.
PACKAGES = (f"foolbox=={VERSION}", "eagerpy", "typing-extensions", "GitPython", "gitdb", "smmap", "requests",
            "urllib3", "idna", "certifi", "charset-normalizer")
STEPS, RELATIVE_STEP = 40, 0.01 / 0.3


def install_foolbox(folder):
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade",
                    "--no-deps", "--target", str(folder), *PACKAGES], check=True, stdout=sys.stderr)


def has_foolbox(folder):
    return (folder / "foolbox").is_dir() or importlib.util.find_spec("foolbox") is not None


def load_foolbox(folder):
    sys.path.append(str(folder))  # at the end: the interpreter's own numpy goes first
    try:
        import foolbox  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        raise UserError(folder, found=str(error), expected=f"foolbox {VERSION}") from error
    if foolbox.__version__ != VERSION:
        raise UserError(folder, found=f"foolbox {foolbox.__version__}", expected=f"foolbox {VERSION}")
    return foolbox


def read_test_split(file, count=None):
    """Network inputs and labels of the first `count` test images."""
    with h5py.File(file) as data:
        attributes = data.attrs
        images = data["test/images"][:count].astype(numpy.float32)
        mean, std = (numpy.asarray(attributes[name], numpy.float32).reshape(-1, 1, 1) for name in ("mean", "std"))
        x = (images / numpy.float32(attributes["divisor"]) - mean) / std
        return torch.from_numpy(x), torch.from_numpy(data["test/labels"][:count].astype(numpy.int64))


def eager_model(name, file):
    """The network as plain modules, as the study's baseline would run it, with the exported file's weights."""
    model = ARCHITECTURES[name][0]() if name in ARCHITECTURES else packaged.make(name)
    model.load_state_dict(torch.jit.load(str(file)).state_dict())
    return model.eval()


def compiled_model(model, x, batch=250):
    """torch.compile's form of it, compiled for the batches of x."""
    compiled = torch.compile(model)
    with torch.no_grad():
        for part in {len(part): part for part in x.split(batch)}.values():
            compiled(part)
    return compiled


def timed_prediction(model, x):
    start = time.perf_counter()
    classify(model, x)
    return time.perf_counter() - start


class Logits(torch.nn.Module):
    """A network's output before its softmax: what its last linear layer gives."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        last = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][-1]
        last.register_forward_hook(self._keep)
        self.kept = None
        self.eval()

    def _keep(self, _, __, output):
        self.kept = output

    def forward(self, x):
        self.model(x)
        return self.kept


def classify(model, x):
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(250)])


def both_correct(models, x, y):
    right = torch.ones(len(y), dtype=torch.bool)
    for model in models:
        right &= classify(model, x) == y
    return right


def foolbox_attack(foolbox, model, bounds, epsilon, x, y, random_start=True):
    """(success flags, seconds)"""
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(rel_stepsize=RELATIVE_STEP, steps=STEPS,
                                                                random_start=random_start)
    start = time.perf_counter()
    _, _, success = attack(foolbox.PyTorchModel(model, bounds=bounds), x, y, epsilons=epsilon)
    return success.numpy(), time.perf_counter() - start


def eager_attack(model, bounds, epsilon, x, y, piece=100):
    """The tightest loop plain PyTorch allows: no parameter gradients, pieces that fit the caches."""
    model.requires_grad_(False)
    start = time.perf_counter()
    flags = []
    for begin in range(0, len(x), piece):
        x0, labels = x[begin:begin + piece], y[begin:begin + piece]
        point = (x0 + torch.empty_like(x0).uniform_(-epsilon, epsilon)).clamp_(*bounds)
        for _ in range(STEPS):
            point.requires_grad_()
            loss = torch.nn.functional.cross_entropy(model(point), labels, reduction="sum")
            gradient, = torch.autograd.grad(loss, point)
            with torch.no_grad():
                point = point + (epsilon * RELATIVE_STEP) * gradient.sign_()
                point = (x0 + (point - x0).clamp_(-epsilon, epsilon)).clamp_(*bounds)
        with torch.no_grad():
            flags.append(model(point).argmax(1) != labels)
    return torch.cat(flags).numpy(), time.perf_counter() - start
