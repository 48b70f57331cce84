"""MNIST from its four IDX files, split as the study split it."""

import gzip
import zlib

import numpy as np

from common.errors import UserError
from prepare.container import writing
from prepare.official import Form, Origin, locate
from prepare.splits import permutation

NEEDS_SOURCE = True
ORIGIN = Origin("MNIST", "http://yann.lecun.com/exdb/mnist/",
                "Y. LeCun, C. Cortes, C. Burges; commonly given as CC BY-SA 3.0")
FILES = [
    [Form("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
     Form("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb")],
    [Form("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
     Form("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624")],
    [Form("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
     Form("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea")],
    [Form("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
     Form("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637")],
]


def read_idx(path, rank, shape):
    """An IDX file of unsigned bytes as an array; `shape` is what MNIST must have there."""
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(path, found=str(error), expected="a readable IDX file") from error
    header = 4 + 4 * rank
    expected = f"an IDX file of unsigned bytes with {rank} dimension{'s' if rank > 1 else ''}"
    if len(raw) < header or raw[:4] != bytes([0, 0, 8, rank]):
        raise UserError(path, "byte 0", f"header {raw[:4].hex() or '(empty)'}", expected)
    found = tuple(np.frombuffer(raw, ">u4", rank, 4).tolist())
    if found != shape:
        raise UserError(path, "byte 4", f"dimensions {found}", f"{shape}")
    size = int(np.prod(shape))
    if len(raw) != header + size:
        raise UserError(path, f"byte {header}", f"{len(raw) - header} bytes of data", f"{size}")
    return np.frombuffer(raw, np.uint8, size, header).reshape(shape)


def prepare(source, out, check):
    train_x, train_y, test_x, test_y = locate(source, ORIGIN, FILES, check)
    train_images = read_idx(train_x, 3, (60000, 28, 28))[:, None]
    train_labels = read_idx(train_y, 1, (60000,))
    test_images = read_idx(test_x, 3, (10000, 28, 28))[:, None]
    test_labels = read_idx(test_y, 1, (10000,))
    for path, labels in ((train_y, train_labels), (test_y, test_labels)):
        if labels.max() > 9:
            raise UserError(path, f"label {int(np.argmax(labels > 9))}", str(labels.max()), "0..9")
    inner, outer = permutation(60000), permutation(10000)
    with writing(out, 70000) as data:
        data.describe(classes=10, divisor=255, mean=[0.0], std=[1.0], class_names=[str(i) for i in range(10)],
                      source=f"MNIST, {ORIGIN.home}", terms=ORIGIN.terms,
                      splits="p(n) = RandomState(42).permutation(n); validation p(60000)[:6000], train the rest; "
                             "of the 10,000 test images repair p(10000)[:5000], test the rest")
        data.add_array("train", train_images[inner[6000:]], train_labels[inner[6000:]])
        data.add_array("validation", train_images[inner[:6000]], train_labels[inner[:6000]])
        data.add_array("repair", test_images[outer[:5000]], test_labels[outer[:5000]])
        data.add_array("test", test_images[outer[5000:]], test_labels[outer[5000:]])
