"""Development only: a data file without its test images, to choose defaults on. Writes from a file of scripts/prepare
another whose splits test and validation are the two halves of the validation split; train and repair stay as they are.

Which half an image is in follows from the seed alone. A file without a validation split gives --size images of its
train split instead, which then has so many fewer; a model that was trained on them has seen them. What was done is
written into the root attribute held_out.

    .venv/bin/python tests/dev/held_out.py data/mnist/mnist.h5 --out /tmp/held_out.h5 [--seed 1]
    .venv/bin/python tests/dev/held_out.py data/imagenet/imagenet.h5 --out /tmp/held_out.h5 --from train --size 600
"""

import argparse
import pathlib
import sys

import h5py
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "python"))
from common import kinds  # noqa: E402  pylint: disable=wrong-import-position
from common.errors import UserError, nearest, one_line, run_main  # noqa: E402  pylint: disable=wrong-import-position
from common.files import check_space, existing_file, replacing  # noqa: E402  pylint: disable=wrong-import-position
from prepare.container import SPLITS  # noqa: E402  pylint: disable=wrong-import-position
from prepare.splits import permutation  # noqa: E402  pylint: disable=wrong-import-position

SLAB_BYTES = 64 << 20  # of a data set that are in memory at once
WHAT = "a data file, as scripts/prepare writes it"


def split_size(handle, name):
    return handle[name]["labels"].shape[0]


def check_layout(handle, path):
    """An error unless every split has images and labels, all its data sets equally long."""
    if not any(name in handle for name in SPLITS) or "classes" not in handle.attrs:
        raise UserError(path, found="an HDF5 file of another layout", expected=WHAT)
    for name in SPLITS:
        if name not in handle:
            continue
        split = handle[name]
        if not isinstance(split, h5py.Group) or not {"images", "labels"} <= set(split):
            raise UserError(path, f"/{name}", "no images or no labels", WHAT)
        for key, values in split.items():
            if not isinstance(values, h5py.Dataset) or values.shape[:1] != split["labels"].shape[:1]:
                raise UserError(path, f"/{name}/{key}", "not one entry an image", WHAT)


def choose(handle, path, origin, size, seed):
    """{split to write: (split to read, sorted image numbers)}; test and validation are halves of what is held out."""
    if origin == "validation":
        if "validation" not in handle:
            raise UserError(path, found="no split validation", expected="one to take the images from",
                            remedy="--from train --size N takes them out of the train split")
        if size is not None:
            raise UserError("--size", found=str(size), expected="--from train: of the validation split all are taken")
    elif "validation" in handle:
        raise UserError("--from", found=f"train, though {path} has a split validation", expected="--from validation")
    elif "train" not in handle:
        raise UserError(path, found="no split train", expected="one to take the images from")
    elif size is None:
        raise UserError("--size", found="nothing", expected="with --from train the number of images to take")
    count = split_size(handle, origin)
    if origin == "train" and not 2 <= size < count:
        raise UserError("--size", found=str(size), expected=f"2 to {count - 1}, as {path} has {count} train images")
    if count < 2:
        raise UserError(path, f"/{origin}", f"{count} image", "two or more")
    order = permutation(count, seed)
    size = count if size is None else size
    chosen = {name: (name, np.arange(split_size(handle, name))) for name in ("train", "repair") if name in handle}
    chosen["validation"] = (origin, np.sort(order[size // 2:size]))
    chosen["test"] = (origin, np.sort(order[:size // 2]))
    if origin == "train":
        chosen["train"] = (origin, np.sort(order[size:]))
    return chosen


def copy_images(source, target, key, numbers):
    """Copies the numbered (sorted) entries of a data set, as it is stored, in slabs and without compression."""
    values = source[key]
    row = max(1, values.dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64)))
    step = max(1, SLAB_BYTES // row)
    written = target.create_dataset(key, (len(numbers), *values.shape[1:]), values.dtype, track_times=False)
    written.attrs.update(values.attrs)
    for begin in range(0, len(values), step):
        first, last = np.searchsorted(numbers, [begin, begin + step])
        if first < last:
            written[first:last] = values[begin:begin + step][numbers[first:last] - begin]


def write(source, out, origin, size, seed):
    """Writes `out` and returns the number of images of each of its splits."""
    with h5py.File(source, "r") as handle:
        check_layout(handle, source)
        chosen = choose(handle, source, origin, size, seed)
        check_space(out, sum(handle[name]["images"].dtype.itemsize * handle[name]["images"][:1].size * len(numbers)
                             for name, numbers in chosen.values()))
        with replacing(out) as partial, h5py.File(partial, "w") as made:
            made.attrs.update(handle.attrs)
            taken = len(chosen["test"][1]) + len(chosen["validation"][1])
            made.attrs["held_out"] = (f"test and validation are halves of {taken} images of the split {origin}, by "
                                      f"RandomState({seed}).permutation; the test split of the source is left out")
            for name in SPLITS:
                if name in chosen:
                    read, numbers = chosen[name]
                    group = made.create_group(name)
                    for key in handle[read]:
                        copy_images(handle[read], group, key, numbers)
        return {name: len(chosen[name][1]) for name in SPLITS if name in chosen}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, metavar="FILE.h5", help="made by scripts/prepare")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE.h5")
    parser.add_argument("--from", dest="origin", default="validation", metavar="SPLIT",
                        help="validation (default), or train for a file without validation")
    parser.add_argument("--size", type=int, metavar="N", help="with --from train: how many of its images are taken")
    parser.add_argument("--seed", type=int, default=42, help="of the halves (default 42)")
    given = parser.parse_args(arguments)
    if given.origin not in ("validation", "train"):
        raise UserError("--from", found=f'"{given.origin}"', expected="validation or train",
                        remedy=nearest(given.origin, ("validation", "train")))
    if not 0 <= given.seed < 2 ** 32:
        raise UserError("--seed", found=str(given.seed), expected=f"0 to {2 ** 32 - 1}")
    source = existing_file(given.source, WHAT)
    if given.out.exists() and given.out.samefile(source):
        raise UserError("--out", found=str(given.out), expected="another file than the one that is read")
    kind = kinds.kind_of(source)
    if kind.name != "hdf5":
        raise UserError(source, found=kind.text, expected=WHAT, remedy=kind.remedy)
    try:
        sizes = write(source, given.out, given.origin, given.size, given.seed)
    except (RuntimeError, KeyError) as error:  # what h5py raises on damage
        raise UserError(source, found=f"a damaged file ({one_line(error)})", expected=WHAT) from error
    print(f"{given.out}: " + ", ".join(f"{name} {size}" for name, size in sizes.items()))
    return 0


if __name__ == "__main__":
    run_main(main)
