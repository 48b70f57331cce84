"""One's own arrays, from NumPy files."""

import argparse
import pathlib

import numpy as np

from common import kinds
from common.errors import UserError, one_line
from common.files import existing_file
from prepare import stacks

FILES = "a NumPy .npz file, or .npy files of images and labels"
NO_ARRAYS = (*kinds.USELESS, "text", "hdf5", "torch", "torchscript", "zip")
PAIRS = (("images", "labels"), ("image", "label"), ("imgs", "labels"), ("x", "y"), ("X", "y"), ("data", "labels"),
         ("data", "targets"), ("inputs", "targets"))  # of the names of two .npy files

DESCRIPTION = """Arrays images, labels and, where wanted, group with --split; or {split}_images, {split}_labels and
{split}_group for each split there is, {split} being train, val (or validation), repair or test; also x_train, y_train
and the like. --source is a .npz file, a folder of .npy files called so, or one .npy file of images, with --labels
FILE.npy. Images are uint8 (divided by 255), other whole numbers between 0 and 255, or floating point (not divided, see
--divisor); labels are whole numbers from 0, names, or one-hot rows; groups hold two different values."""


def _load(path):
    kinds.refuse(path, kinds.kind_of(path), FILES, NO_ARRAYS)
    try:
        content = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix.lower() == ".npy" else None)
        if isinstance(content, np.ndarray):
            return content
        with content:
            return {name: content[name] for name in content.files}
    except Exception as error:  # a damaged file makes NumPy raise errors of many kinds
        raise UserError(path, found=f"a file that cannot be read ({one_line(error)})",
                        expected="arrays of numbers, as numpy.savez and numpy.save write them") from error


def _single(path, word):
    array = _load(existing_file(path, f"a .npy file of {word}"))
    if isinstance(array, dict):
        raise UserError(path, found="a .npz file", expected=f"a .npy file of {word}")
    return array


def _beside(path):
    """The .npy file of labels that goes with a .npy file of images by its name."""
    for images, labels in PAIRS:
        tokens = path.stem.split("_")
        if images in tokens:
            other = path.with_name("_".join(labels if token == images else token for token in tokens) + path.suffix)
            if other.is_file():
                return other
    raise UserError(path, "--labels", "nothing", "the labels of these images: --labels FILE.npy")


def read_arrays(given):
    """{name: array} of the source. --labels and --group that name .npy files are done with."""
    path = given.source
    if path.is_dir():
        files = sorted(path.glob("*.npy"))
        if not files:
            raise UserError(path, found="no .npy files", expected="images.npy and labels.npy, or those of each split")
        return {file.stem: _single(file, "images or labels") for file in files}
    content = _load(existing_file(path, FILES))
    if isinstance(content, dict):
        return content
    arrays = {"images": content, "labels": _single(pathlib.Path(given.labels or _beside(path)), "labels")}
    if given.group is not None:
        arrays["group"] = _single(pathlib.Path(given.group), "groups")
    given.images = given.labels = given.group = None
    return arrays


def main(arguments):
    parser = argparse.ArgumentParser(prog="scripts/prepare npz", description=DESCRIPTION)
    stacks.add_options(parser)
    given = parser.parse_args(arguments)
    stacks.check_options(given)
    stacks.prepare(given, read_arrays(given), strict=True)
