"""What the ways of bringing one's own images share: sizes, constants, groups, splits, the final file."""

import argparse
import pathlib

import numpy as np
from PIL import Image

from common.errors import UserError
from prepare import labels as class_labels
from prepare.container import SPLITS, writing
from prepare.options import parse_constants
from prepare.splits import by_fractions, cut_named, parse_fractions


def add_options(parser):
    parser.add_argument("--source", type=pathlib.Path, required=True, metavar="PATH", help="what is read, see above")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE.h5")
    parser.add_argument("--split", metavar="NAME=FRACTION,...", help="split at random, such as repair=.5,test=.5; "
                        "NAME is one of " + ", ".join(SPLITS) + "; what the fractions leave over is not used")
    parser.add_argument("--repair-from", metavar="NAME=FRACTION", help="cut the split repair at random out of a split "
                        "that the source names, such as val=.5; the rest stays there")
    parser.add_argument("--test-from", metavar="NAME=FRACTION", help="the same for the split test")
    parser.add_argument("--seed", type=int, default=42, help="of all cutting (default 42)")
    parser.add_argument("--stratified", action="store_true", help="cut every class by itself, so that all splits "
                        "hold the classes in the same proportion; without it, one permutation of all images is cut")
    class_labels.add_options(parser)
    parser.add_argument("--size", metavar="HxW|N", help="resize the images (bilinear, proportions not kept)")
    parser.add_argument("--mean", metavar="M,...", help="per channel or one for all, after division (default 0)")
    parser.add_argument("--std", metavar="S,...", help="per channel or one for all, after division (default 1)")
    return parser


def resize_plane(plane, size):
    """One (H,W) plane of uint8 or float32, bilinear."""
    return np.asarray(Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=plane.dtype)


def split_numbers(given, labels, named, source):
    """Image numbers per split: the source's own (`named`: a split's name per image, or None), or --split's."""
    cut = "--repair-from NAME=FRACTION cuts repair out of one of them"
    if named is not None and given.split is not None:
        raise UserError("--split", found="a source that names its splits itself", expected="no --split with it",
                        remedy=cut)
    if named is None and given.split is None:
        raise UserError("--split", found="nothing", expected="fractions such as repair=.5,test=.5, "
                        f"because {source} does not say which image is in which split")
    if named is None:
        if given.repair_from is not None or given.test_from is not None:
            raise UserError("--repair-from and --test-from", found="a source that does not name its splits",
                            expected="--split alone")
        return by_fractions(labels, parse_fractions(given.split), given.seed, given.stratified, source)
    named = np.asarray(named)
    own = {name: np.flatnonzero(named == name) for name in SPLITS if np.any(named == name)}
    return cut_named(own, labels, given, source)


def group_numbers(values, source, told=()):
    """Two different values to 0 and 1 in sorted order, with their names; `told` is what the source calls 0 and 1."""
    if len(told) == 2 and set(values) <= {0, 1}:
        return np.array(values, dtype=np.uint8), list(told)
    names = sorted(set(values), key=lambda value: (not str(value).isdigit(), str(value)))
    if len(names) != 2:
        shown = ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
        raise UserError(source, "group", f"{len(names)} different values ({shown})", "two sensitive groups")
    return np.array([names.index(value) for value in values], dtype=np.uint8), [str(name) for name in names]


def _splits_text(given):
    """How the images came into their splits, for the data file."""
    rule = f"seed {given.seed}" + (", stratified" if given.stratified else "")
    if given.split is not None:
        return f"{given.split}, {rule}"
    cuts = [f"{name} from {text}" for name, text in (("repair", given.repair_from), ("test", given.test_from)) if text]
    return "as the source names them" + (f"; {', '.join(cuts)}, {rule}" if cuts else "")


def write(given, *, labels, classes, numbers, shape, dtype, divisor, pieces_of, groups, group_names, mean=None,
          std=None):
    """Writes all splits. `labels` are numbers of `classes`; `pieces_of(numbers)` yields the images with these numbers
    in arrays (n,C,H,W); mean and std are what the source itself says."""
    mean = parse_constants("--mean", given.mean, shape[0], [0.0] if mean is None else mean, False)
    std = parse_constants("--std", given.std, shape[0], [1.0] if std is None else std, True)
    if classes.count < 2:
        raise UserError(given.source, "labels", f"{classes.count} class", "two classes or more")
    with writing(given.out, sum(map(len, numbers.values()))) as data:
        data.describe(classes=classes.count, divisor=divisor, mean=mean, std=std, group_names=group_names,
                      source=given.source.name, splits=_splits_text(given), **classes.describe())
        for name in SPLITS:
            if name in numbers:
                chosen = numbers[name]
                data.add_split(name, labels[chosen], pieces_of(chosen), shape, dtype,
                               None if groups is None else groups[chosen])


def parser_for(program, description):
    return add_options(argparse.ArgumentParser(prog=program, description=description))
