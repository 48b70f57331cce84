"""What the tests of scripts/export share: runs of the command, refusals, and a file of one's own networks."""

import contextlib
import io
import pathlib
import re
import sys
import tempfile
import unittest
from unittest import mock

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "python"))

from common.errors import UserError  # noqa: E402
from export import __main__ as command  # noqa: E402

torch.set_num_threads(1)

FACTORY = """
import torch
from torch import nn
from torch.nn import functional

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).mean([2, 3]))

class Uncompiled(Net):
    def forward(self, x, *others):  # of a kind that TorchScript refuses
        return self.fc(functional.dropout(torch.relu(self.norm(self.conv(x))), 0.5, self.training).mean([2, 3]))

class Baked(Net):
    def forward(self, x, *others):
        return super().forward(x) + torch.zeros(int(x.shape[0]), 3)

class Branching(Net):
    def forward(self, x, *others):
        return super().forward(x) * torch.tensor([[1.0 if float(image.sum()) > 32 else 2.0] for image in x])

class Refusing(Net):
    def forward(self, x, *others):
        if torch.jit.is_tracing():
            raise ValueError("I will not be \\x1b[1mtraced\\x1b[0m\\nat all")
        return super().forward(x)

class Random(Net):
    def forward(self, x):
        return super().forward(functional.dropout(x))

class Mixing(Net):
    def forward(self, x):
        return super().forward(x - 3 * x.mean(0, keepdim=True))

class InPlace(Net):
    def forward(self, x):
        return super().forward(x.sub_(0.5).div_(0.25))
"""
SHAPE = (2, 1, 8, 8)


class AnyCase(unittest.TestCase):
    """A folder with mine.py, a file of networks, and a place for the model."""

    networks = FACTORY

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.out = self.folder / "out" / "model.pt"
        (self.folder / "mine.py").write_text(self.networks)

    def run_export(self, *arguments):
        """(standard output, standard error) of `scripts/export ARGUMENTS --out ...`."""
        given = ["export", *map(str, arguments), "--out", str(self.out)]
        with mock.patch.object(sys, "argv", given), contextlib.redirect_stdout(io.StringIO()) as printed, \
                contextlib.redirect_stderr(io.StringIO()) as said:
            command.main()
        return printed.getvalue(), said.getvalue()

    def refused(self, *arguments, **options):
        with self.assertRaises(UserError) as caught:
            self.run_export(*arguments, **options)
        self.assertFalse(self.out.exists())
        text = str(caught.exception)
        self.assertIsNone(re.search(r"[\x00-\x09\x0b-\x1f]", text), repr(text))
        return text


class Case(AnyCase):
    def run_export(self, *arguments, network="Net"):
        return super().run_export("--factory", f"{self.folder / 'mine.py'}:{network}", "--shape",
                                  ",".join(map(str, SHAPE)), *arguments)

    def network(self, name="Net", seed=3):
        """The factory's network with weights of its own, in eval mode."""
        model = command.from_factory(f"{self.folder / 'mine.py'}:{name}").eval()
        torch.manual_seed(seed)
        with torch.no_grad():
            for tensor in model.state_dict().values():
                if tensor.is_floating_point():
                    tensor.uniform_(0.1, 1)
        return model

    def answers_as(self, model, count=5):
        inputs = torch.rand(count, *SHAPE[1:])
        with torch.no_grad(), torch.jit.optimized_execution(False):
            torch.testing.assert_close(torch.jit.load(str(self.out))(inputs.clone()), model(inputs.clone()))
