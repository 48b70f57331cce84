"""The embedded subject's network: a small convolutional one, deliberately trained too briefly.

So short a training leaves faults to fix. Same seed, one thread: the same file on every run of a machine.
"""

import argparse
import pathlib

import h5py
import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import run_main
from common.files import existing_file
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
    torch.manual_seed(SEED)
    model = DigitsCnn()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model.eval()


def accuracy(model, images, labels):
    with torch.no_grad():
        return 100 * (model(images).argmax(1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser(prog="digits_model", description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True, metavar="digits.h5")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE.pt")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with h5py.File(existing_file(given.data, "the file of scripts/prepare digits"), "r") as handle:
        splits = {name: read_split(handle, name) for name in ("train", "repair", "test")}
    model = train(*splits["train"])
    print(torchscript.export(model, (2, 1, 8, 8), given.out, False, "digits_cnn").line("digits_cnn"))
    print("right: " + ", ".join(f"{name} {accuracy(model, *split):.1f} %" for name, split in splits.items()))
    return 0


if __name__ == "__main__":
    run_main(main)
