"""What the two ways of bringing one's own images share: sizes, constants, groups, splits, the final file."""

import argparse
import pathlib

import numpy as np
from PIL import Image

from common.errors import UserError
from prepare.container import SPLITS, writing
from prepare.options import parse_constants
from prepare.splits import by_fractions, parse_fractions


def add_options(parser):
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE.h5")
    parser.add_argument("--split", metavar="NAME=FRACTION,...", help="split at random, such as repair=.5,test=.5; "
                        "NAME is one of " + ", ".join(SPLITS) + "; what the fractions leave over is not used")
    parser.add_argument("--seed", type=int, default=42, help="of --split (default 42)")
    parser.add_argument("--stratified", action="store_true", help="split every class by itself, so that all splits "
                        "hold the classes in the same proportion; without it, one permutation of all images is cut")
    parser.add_argument("--size", metavar="HxW|N", help="resize the images (bilinear, proportions not kept)")
    parser.add_argument("--mean", metavar="M,...", help="per channel or one for all, after division (default 0)")
    parser.add_argument("--std", metavar="S,...", help="per channel or one for all, after division (default 1)")
    return parser


def resize_plane(plane, size):
    """One (H,W) plane of uint8 or float32, bilinear."""
    return np.asarray(Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=plane.dtype)


def split_numbers(given, labels, named, source):
    """Image numbers per split: the source's own (`named`: a split's name per image, or None), or --split's."""
    if named is not None and given.split is not None:
        raise UserError("--split", found="a source that names its splits itself", expected="no --split with it")
    if named is None and given.split is None:
        raise UserError("--split", found="nothing", expected="fractions such as repair=.5,test=.5, "
                        f"because {source} does not say which image is in which split")
    if named is None:
        return by_fractions(labels, parse_fractions(given.split), given.seed, given.stratified, source)
    named = np.asarray(named)
    return {name: np.flatnonzero(named == name) for name in SPLITS if np.any(named == name)}


def group_numbers(values, source):
    """Two different values to 0 and 1 in sorted order, with their names."""
    names = sorted(set(values), key=lambda value: (not str(value).isdigit(), str(value)))
    if len(names) != 2:
        shown = ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
        raise UserError(source, "group", f"{len(names)} different values ({shown})", "two sensitive groups")
    return np.array([names.index(value) for value in values], dtype=np.uint8), [str(name) for name in names]


def write(given, *, labels, classes, class_names, numbers, shape, dtype, divisor, pieces_of, groups, group_names):
    """Writes all splits. `pieces_of(numbers)` yields the images with these numbers in arrays (n,C,H,W)."""
    mean = parse_constants("--mean", given.mean, shape[0], [0.0], False)
    std = parse_constants("--std", given.std, shape[0], [1.0], True)
    labels = np.asarray(labels, dtype=np.int64)
    if classes < 2:
        raise UserError(given.source, "labels", f"{classes} class", "two classes or more")
    with writing(given.out, sum(map(len, numbers.values()))) as data:
        splits = "as the source names them"
        if given.split is not None:
            splits = f"{given.split}, seed {given.seed}" + (", stratified" if given.stratified else "")
        data.describe(classes=classes, divisor=divisor, mean=mean, std=std, class_names=class_names,
                      group_names=group_names, source=given.source.name, splits=splits)
        for name in SPLITS:
            if name in numbers:
                chosen = numbers[name]
                data.add_split(name, labels[chosen], pieces_of(chosen), shape, dtype,
                               None if groups is None else groups[chosen])


def parser_for(program, description):
    return add_options(argparse.ArgumentParser(prog=program, description=description))
