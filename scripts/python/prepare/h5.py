"""One's own HDF5 file of any layout: names, order of axes, types and compression become those the harness reads."""

import argparse
import contextlib

import h5py
import numpy as np

from common import kinds
from common.errors import UserError, note, one_line
from common.files import existing_file
from prepare import stacks
from prepare.arrays import WORDS
from prepare.options import in_range, range_of
from prepare.splits import is_split_name

NO_HDF5 = (*kinds.USELESS, "text", "npz", "npy", "torch", "torchscript", "zip")
GIVEN = ("classes", "divisor", "mean", "std")  # attributes of the harness's own layout, which are kept
NAMES = ("class_names", "group_names")         # likewise

DESCRIPTION = """Data sets of images and labels in an HDF5 file: images and labels (or x and y, data and targets) with
--split, or train_images, x_train, train/images and the like for each split; --images NAME and --labels NAME say which
they are where they are called otherwise. Images may be N,H,W,C or N,C,H,W or N,H,W, of uint8 (divided by 255), other
whole numbers between 0 and 255, or floating point (not divided, see --divisor), packed with any filter that h5py knows;
labels are whole numbers from 0, names, or one-hot rows."""


def _data_sets(handle):
    """{name: data set} of the file."""
    found = {}

    def visit(name, thing):
        if isinstance(thing, h5py.Dataset) and thing.shape is not None and thing.dtype is not None:
            found[name] = thing

    handle.visititems(visit)
    return found


def _without_common_group(names):
    """The names without the groups that all are in, unless it is a split."""
    tops = {name.partition("/")[0] for name in names}
    inner = {name.partition("/")[2]: thing for name, thing in names.items()}
    if len(tops) != 1 or not all(inner) or is_split_name(next(iter(tops))):
        return names
    return _without_common_group(inner)


def _said(handle, path):
    """The attributes of the harness's own layout that the file has: {name: numbers or texts}."""
    said = {}
    for name in GIVEN:
        try:
            numbers = np.asarray(handle.attrs.get(name, []), dtype=np.float64).reshape(-1)
        except (TypeError, ValueError):
            numbers = np.array([np.nan])
        if not in_range(numbers, name != "mean"):
            raise UserError(path, f"attribute {name}", str(handle.attrs[name]), "numbers " + range_of(name != "mean"))
        if len(numbers):
            said[name] = numbers.tolist()
    for name in NAMES:
        value = handle.attrs.get(name)
        if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "OSU":
            said[name] = [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in value]
    if said:
        kept = ", ".join(name if name in NAMES else f"{name} {' '.join(f'{number:g}' for number in said[name])}"
                         for name in said)
        note(f"{path}: its attributes are kept: {kept}")
    return said


def main(arguments):
    parser = argparse.ArgumentParser(prog="scripts/prepare h5", description=DESCRIPTION)
    stacks.add_options(parser)
    given = parser.parse_args(arguments)
    stacks.check_options(given)
    path = existing_file(given.source, "an HDF5 file")
    kinds.refuse(path, kinds.kind_of(path), "an HDF5 file", NO_HDF5)
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(h5py.File(path, "r"))
            said, content = _said(handle, path), _data_sets(handle)
        except UserError:
            raise
        except Exception as error:  # a damaged file makes HDF5 raise errors of many kinds
            raise UserError(path, found=f"a file that is not HDF5, or a damaged one ({one_line(error)})",
                            expected="an HDF5 file") from error
        if all(getattr(given, word) is None for word in WORDS):
            content = _without_common_group(content)
        stacks.prepare(given, content, strict=False, **said)
