"""The embedded subject's network: a small convolutional one, deliberately trained too briefly.

So short a training, on few images, leaves faults of several kinds to fix, and its last epoch makes some images worse.
The model of every epoch is kept beside the last one, in history/, for approaches that read the training's history.
Same seed, one thread, and double precision until an epoch's model is stored, which drops what processors do
differently: the same files on every run, and with AVX512, AVX2 and neither.
"""

import argparse
import copy
import dataclasses
import pathlib

import h5py
import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import run_main
from common.files import existing_file, write_bytes
from export import torchscript

SEED = 8
EPOCHS = 8
BATCH = 32
LEARNING_RATE = 0.003


class DigitsCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(x)


def read_split(handle, name):
    scale = float(handle.attrs["divisor"])
    images = torch.from_numpy(handle[name]["images"][:]).to(torch.float32) / scale
    mean, std = (torch.tensor(handle.attrs[key], dtype=torch.float32).reshape(1, -1, 1, 1) for key in ("mean", "std"))
    return (images - mean) / std, torch.from_numpy(handle[name]["labels"][:])


def train(images, labels):
    """The models of all epochs, the last one is the network."""
    torch.manual_seed(SEED)
    model, images = DigitsCnn().double(), images.double()
    for layer in model.children():
        layer.reset_parameters()  # drawn in double precision, too: single differs with the CPU's instructions
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(SEED)
    models = []
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        models.append(copy.deepcopy(model).float().eval())
    return models


def accuracy(model, images, labels):
    with torch.no_grad():
        return 100 * (model(images).argmax(1) == labels).float().mean().item()


def history_files(out):
    """Where the models of all epochs lie, oldest first; configs/subjects/digits.json names the same files."""
    return [out.parent / "history" / f"epoch_{epoch:02d}.pt" for epoch in range(1, EPOCHS + 1)]


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="digits_model", description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True, metavar="digits.h5")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE.pt",
                        help="the model; those of all epochs go into history/ beside it")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with h5py.File(existing_file(given.data, "the file of scripts/prepare digits"), "r") as handle:
        splits = {name: read_split(handle, name) for name in ("train", "repair", "test")}
    models, files = train(*splits["train"]), history_files(given.out)
    for model, file in zip(models, files):
        exported = torchscript.export(model, (2, 1, 8, 8), file, False, "digits_cnn")
    write_bytes(given.out, files[-1].read_bytes())
    print(dataclasses.replace(exported, out=given.out).line("digits_cnn"))
    print("right: " + ", ".join(f"{name} {accuracy(models[-1], *split):.1f} %" for name, split in splits.items()))
    return 0


if __name__ == "__main__":
    run_main(main)
