"""The HDF5 file the harness reads.

Groups train, validation, repair, test, each with images (N,C,H,W; uint8 or float32), labels (N; int64) and,
where the subject has sensitive groups, group (N; uint8, 0 or 1). Root attributes classes, divisor, mean (C),
std (C), group_names; network input = (images / divisor - mean) / std.
"""

import contextlib
import pathlib

import h5py
import numpy as np

from common.errors import UserError
from common.files import replacing
from prepare.progress import Progress

SPLITS = ("train", "validation", "repair", "test")


class DataFile:
    """An HDF5 data file while it is written. Images may come in pieces, so a split need not fit in memory."""

    def __init__(self, handle, name, progress):
        self._handle = handle
        self._name = name
        self._progress = progress
        self._sizes = {}

    def describe(self, *, classes, divisor, mean, std, class_names=None, group_names=None, **texts):
        attributes = self._handle.attrs
        attributes["classes"] = np.int64(classes)
        attributes["divisor"] = np.float64(divisor)
        attributes["mean"] = np.asarray(mean, dtype=np.float64)
        attributes["std"] = np.asarray(std, dtype=np.float64)
        for key, names in (("class_names", class_names), ("group_names", group_names)):
            if names is not None:
                attributes.create(key, list(names), dtype=h5py.string_dtype())
        for key, text in texts.items():
            attributes[key] = text

    def add_split(self, name, labels, pieces, shape, dtype, groups=None, chunk=None, compress=False):
        """`pieces` yields arrays (n,C,H,W) that together are the split's images, in the order of `labels`.

        With `chunk`, so many images are stored together as a chunk, compressed lightly if that is wanted.
        """
        count = len(labels)
        if count == 0:
            raise UserError(self._name, f"/{name}", "no images", "at least one image in every split that is there")
        group = self._handle.create_group(name)
        storage = {} if chunk is None else {"chunks": (min(chunk, count), *shape)}
        if compress:
            storage.update(compression="gzip", compression_opts=1)
        images = group.create_dataset("images", shape=(count, *shape), dtype=dtype, track_times=False, **storage)
        position = 0
        for piece in pieces:
            images[position:position + len(piece)] = piece
            position += len(piece)
            self._progress.advance(len(piece))
        if position != count:
            raise AssertionError(f"{name}: {position} images for {count} labels")
        group.create_dataset("labels", data=np.asarray(labels, dtype=np.int64), track_times=False)
        if groups is not None:
            group.create_dataset("group", data=np.asarray(groups, dtype=np.uint8), track_times=False)
        self._sizes[name] = count

    def add_array(self, name, images, labels, groups=None):
        """A split whose images are in memory already."""
        slabs = (images[begin:begin + 4096] for begin in range(0, len(images), 4096))
        self.add_split(name, labels, slabs, images.shape[1:], images.dtype, groups)

    def summary(self):
        """One line: the splits with their sizes, and what an image looks like."""
        first = self._handle[next(iter(self._sizes))]["images"]
        sizes = ", ".join(f"{name} {self._sizes[name]}" for name in SPLITS if name in self._sizes)
        shape = "x".join(map(str, first.shape[1:]))
        return f"{self._name}: {sizes}; {shape} {first.dtype}, {self._handle.attrs['classes']} classes"


@contextlib.contextmanager
def writing(path, total):
    """A DataFile for `total` images that appears under `path` when the block succeeds, and leaves nothing behind
    otherwise."""
    with replacing(path) as partial:
        progress = Progress(pathlib.Path(path).name, total)
        try:
            with h5py.File(partial, "w") as handle:
                data = DataFile(handle, path, progress)
                yield data
                summary = data.summary()
        finally:
            progress.close()
    print(summary)
