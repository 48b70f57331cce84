"""CIFAR-10 from the six batches of its binary version."""

import pathlib

import numpy as np

from common.errors import UserError
from prepare.container import writing
from prepare.official import Form, Origin, locate
from prepare.splits import permutation

NEEDS_SOURCE = True
ORIGIN = Origin("CIFAR-10 (binary version)",
                "https://www.cs.toronto.edu/~kriz/cifar.html, there cifar-10-binary.tar.gz "
                "(md5 c32a1d4ab5d03f1284b67883e8d87530), unpacked",
                "free to use; cite A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009")
FILES = [
    [Form("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25")],
    [Form("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692")],
    [Form("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421")],
    [Form("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb")],
    [Form("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d")],
    [Form("test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d")],
]
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
MEAN = [0.4914009, 0.48215896, 0.4465308]
STD = [0.24703279, 0.24348423, 0.26158753]
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # label, then the red, green and blue plane
PIECE = 4096


def find(source, origin, files, check):
    """The paths of `files` in `source`, or in the folder of its archive below it."""
    inside = pathlib.Path(source) / "cifar-10-batches-bin"
    return locate(inside if inside.is_dir() else source, origin, files, check)


def map_batch(path):
    """The records of one batch, left in their file until they are read."""
    size = path.stat().st_size
    if size != 10000 * RECORD:
        raise UserError(path, found=f"{size} bytes", expected=f"{10000 * RECORD}: 10,000 records of {RECORD}")
    records = np.memmap(path, np.uint8, "r", shape=(10000, RECORD))
    labels = records[:, 0]
    if labels.max() > 9:
        at = int(np.argmax(labels > 9))
        raise UserError(path, f"byte {at * RECORD}", f"label {labels[at]}", "0..9")
    return records


class Batches:
    """The images of several batches, numbered through."""

    def __init__(self, paths):
        self._batches = [map_batch(path) for path in paths]
        self.labels = np.concatenate([batch[:, 0] for batch in self._batches])

    def images(self, numbers):
        """The images with these numbers (n,3,32,32)."""
        result = np.empty((len(numbers), RECORD - 1), np.uint8)
        for number, batch in enumerate(self._batches):
            here = numbers // 10000 == number
            result[here] = batch[numbers[here] % 10000, 1:]
        return result.reshape(-1, *SHAPE)


def in_pieces(images, numbers):
    """images(numbers), a piece at a time."""
    return (images(numbers[begin:begin + PIECE]) for begin in range(0, len(numbers), PIECE))


def prepare(source, out, check):
    paths = find(source, ORIGIN, FILES, check)
    train, test = Batches(paths[:5]), Batches(paths[5:])
    inner, outer = permutation(50000), permutation(10000)
    with writing(out, 60000) as data:
        data.describe(classes=10, divisor=255, mean=MEAN, std=STD, class_names=CLASSES,
                      source="CIFAR-10, https://www.cs.toronto.edu/~kriz/cifar.html", terms=ORIGIN.terms,
                      splits="p(n) = RandomState(42).permutation(n); validation p(50000)[:5000], train the rest; "
                             "of the test batch repair p(10000)[:5000], test the rest")
        for name, batches, numbers in (("train", train, inner[5000:]), ("validation", train, inner[:5000]),
                                       ("repair", test, outer[:5000]), ("test", test, outer[5000:])):
            data.add_split(name, batches.labels[numbers], in_pieces(batches.images, numbers), SHAPE, np.uint8)
