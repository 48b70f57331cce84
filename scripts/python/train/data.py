"""Images of a data file for training: the train split in memory as bytes, the others in slabs."""

import contextlib
import hashlib
import pathlib

import h5py
import numpy as np
import torch

from common.errors import UserError
from common.files import existing_file

SHIFT = 4     # pixels a crop may move, the custom for 32x32 images and what the harness does
SLAB = 2000   # images of one read


class Images:
    """Images as bytes with their labels, and how bytes become a network's input."""

    def __init__(self, images, labels, divisor, mean, std):
        self.images, self.labels = images, labels
        self._constants = (divisor, mean, std)

    def __len__(self):
        return len(self.labels)

    def part(self, numbers):
        return Images(self.images[numbers], self.labels[numbers], *self._constants)

    def inputs(self, pixels, device):
        """Bytes (N,C,H,W) as the network's input, by the data file's constants."""
        divisor, *constants = self._constants
        mean, std = (torch.tensor(values, dtype=torch.float32, device=device).reshape(1, -1, 1, 1)
                     for values in constants)
        return (pixels.to(device).to(torch.float32) / divisor - mean) / std

    def digest(self):
        """Of everything a training depends on, however the file that holds it was written."""
        sha = hashlib.sha256(self.images.numpy().data)
        sha.update(self.labels.numpy().tobytes())
        sha.update(repr((tuple(self.images.shape), self._constants)).encode())
        return sha.hexdigest()[:32]


def reflected(positions, size):
    """Positions -SHIFT .. size-1+SHIFT folded back into 0 .. size-1, the border pixel not doubled."""
    positions = positions.abs()
    return torch.where(positions >= size, 2 * (size - 1) - positions, positions)


def augmented(images, numbers, augmentation, generator):
    """The images with these numbers, cropped and flipped at random; bytes, as they are kept."""
    if augmentation == "none":
        return images[numbers]
    if augmentation != "crop_flip":
        raise ValueError(f"unknown augmentation {augmentation}")
    count, (height, width) = len(numbers), images.shape[2:]
    shifts = torch.randint(-SHIFT, SHIFT + 1, (2, count, 1), generator=generator)
    flips = torch.randint(0, 2, (count, 1), generator=generator, dtype=torch.bool)
    rows = reflected(shifts[0] + torch.arange(height), height)
    columns = reflected(shifts[1] + torch.arange(width), width)
    columns = torch.where(flips, columns.flip(1), columns)
    picked = images[numbers[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # N,H,W,C
    return picked.permute(0, 3, 1, 2)


class DataFile:
    """A data file of scripts/prepare, open for reading, checked against the network."""

    def __init__(self, path, handle, image, classes):
        self._path, self._handle, self._image, self._classes = path, handle, image, classes
        missing = [key for key in ("classes", "divisor", "mean", "std") if key not in handle.attrs]
        if missing:
            raise UserError(path, "/ attributes", f"no {', '.join(missing)}", "those of a file of scripts/prepare")
        if int(handle.attrs["classes"]) != classes:
            raise UserError(path, "/ attribute classes", str(handle.attrs["classes"]), f"{classes}, as the network has")

    def has(self, split):
        return split in self._handle

    def _datasets(self, split):
        if not self.has(split):
            raise UserError(self._path, f"/{split}", "nothing", "a split to train on")
        group = self._handle[split]
        for name in ("images", "labels"):
            if name not in group:
                raise UserError(self._path, f"/{split}/{name}", "nothing", "a data set")
        images, labels = group["images"], group["labels"]
        if images.shape[1:] != self._image or images.dtype != np.uint8:
            raise UserError(self._path, f"/{split}/images", f"shape {images.shape}, {images.dtype}",
                            f"(N, {', '.join(map(str, self._image))}), uint8")
        if len(images) == 0 or labels.shape != (len(images),):
            raise UserError(self._path, f"/{split}/labels", f"shape {labels.shape} for {len(images)} images",
                            "one label per image, and an image at least")
        return images, labels

    def _labels(self, split, labels):
        values = labels[:].astype(np.int64)
        outside = np.flatnonzero((values < 0) | (values >= self._classes))
        if len(outside):
            raise UserError(self._path, f"/{split}/labels[{outside[0]}]", str(values[outside[0]]),
                            f"0..{self._classes - 1}")
        return torch.from_numpy(values)

    def _wrap(self, images, labels):
        attributes = self._handle.attrs
        return Images(torch.from_numpy(images), labels, float(attributes["divisor"]),
                      np.asarray(attributes["mean"], np.float64).tolist(),
                      np.asarray(attributes["std"], np.float64).tolist())

    def whole(self, split):
        images, labels = self._datasets(split)
        return self._wrap(images[:], self._labels(split, labels))

    def slabs(self, split):
        """The split in pieces."""
        images, labels = self._datasets(split)
        labels = self._labels(split, labels)
        for begin in range(0, len(labels), SLAB):
            yield self._wrap(images[begin:begin + SLAB], labels[begin:begin + SLAB])


@contextlib.contextmanager
def opened(path, recipe, classes):
    """The data file; one that is missing is told with the command that makes it."""
    path = pathlib.Path(path)
    if not path.exists():
        raise UserError(path, found="no such file", expected="a data file",
                        remedy=f"scripts/prepare {recipe.subject} --source DIR --out {path} makes it")
    existing_file(path, "an HDF5 file of scripts/prepare")
    try:
        handle = h5py.File(path, "r")
    except OSError as error:
        raise UserError(path, found=f"a file that cannot be read ({error})",
                        expected="an HDF5 file of scripts/prepare") from error
    with handle:
        yield DataFile(path, handle, tuple(recipe.image()), classes)
