"""One's own image files, from folders or from a table."""

import csv
import dataclasses
import functools
import sys

import numpy as np
from PIL import Image

from common.errors import UserError, nearest
from prepare import decode, pixels
from prepare.container import SPLITS
from prepare.options import add_processes, parse_processes, parse_size
from prepare.splits import check_split_name

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
COLUMNS = ("path", "label", "split", "group")

DESCRIPTION = """Images in folders SPLIT/CLASS/FILE, or CLASS/FILE with --split, or listed in a CSV table with the
columns path and label and, where wanted, split and group (paths relative to the table; two groups). Labels that are
all whole numbers are used as they are; otherwise classes are numbered in the order of their sorted names. The images
have one channel if all are gray (or --gray is given), else three; transparency is dropped."""


@dataclasses.dataclass
class Listing:
    """The images in reading order, with what the source says of each."""
    paths: list
    labels: list          # texts
    splits: list = None   # or None where the source does not say
    groups: list = None


def _entries(folder):
    return sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _class_folder(folder, listing, ignored, split=None):
    for entry in _entries(folder):
        if entry.is_dir():
            raise UserError(entry, found="a folder inside a class", expected="image files: SPLIT/CLASS/FILE or CLASS/FILE")
        if entry.suffix.lower() not in SUFFIXES:
            ignored.append(entry)
            continue
        listing.paths.append(entry)
        listing.labels.append(folder.name)
        if split is not None:
            listing.splits.append(split)


def from_folders(root):
    folders = [entry for entry in _entries(root) if entry.is_dir()]
    if not folders:
        raise UserError(root, found="no folders", expected="SPLIT/CLASS/FILE or CLASS/FILE")
    named = [folder for folder in folders if folder.name in SPLITS]
    listing, ignored = Listing([], []), [entry for entry in _entries(root) if not entry.is_dir()]
    if named:
        listing.splits = []
        for folder in folders:
            check_split_name(folder.name, folder, "folder")
            for entry in _entries(folder):
                if entry.is_dir():
                    _class_folder(entry, listing, ignored, folder.name)
                else:
                    ignored.append(entry)
    else:
        for folder in folders:
            _class_folder(folder, listing, ignored)
    if ignored:
        print(f"note: {len(ignored)} files are not images by their names and are left out, such as {ignored[0]}",
              file=sys.stderr)
    if not listing.paths:
        raise UserError(root, found="no images", expected="files ending in " + " ".join(SUFFIXES))
    return listing


def from_table(table):
    listing = Listing([], [])
    try:
        with open(table, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            for name in ("path", "label"):
                if name not in columns:
                    raise UserError(table, "line 1", "columns " + (", ".join(columns) or "(none)"), f"a column {name}")
            for name in columns:
                if name not in COLUMNS:
                    raise UserError(table, "line 1", f'column "{name}"', "one of " + ", ".join(COLUMNS),
                                    nearest(name, COLUMNS))
            listing.splits = [] if "split" in columns else None
            listing.groups = [] if "group" in columns else None
            for row in reader:
                place = f"line {reader.line_num}"
                if None in row or None in row.values() or not all(value.strip() for value in row.values()):
                    raise UserError(table, place, "a missing, empty or extra field", f"{len(columns)} fields")
                path = table.parent / row["path"]
                if not path.is_file():
                    raise UserError(table, place, f"{path}, which is not there", "an image file")
                listing.paths.append(path)
                listing.labels.append(row["label"].strip())
                if listing.splits is not None:
                    check_split_name(row["split"], table, place)
                    listing.splits.append(row["split"])
                if listing.groups is not None:
                    listing.groups.append(row["group"].strip())
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(table, found=f"text that cannot be read ({error})", expected="a CSV table in UTF-8") from error
    if not listing.paths:
        raise UserError(table, found="no rows", expected="one image a row")
    return listing


def survey(paths, size, gray):
    """Looks at every file's header before anything is written: (channels, height, width) of all images."""
    all_gray, first = True, None
    for path in paths:
        with decode.open_image(path) as image:
            all_gray = all_gray and image.mode in decode.GRAY_MODES
            if first is None:
                first = (path, image.size)
            elif size is None and image.size != first[1]:
                raise UserError(path, found=f"{image.size[1]}x{image.size[0]} pixels (height x width)",
                                expected=f"{first[1][1]}x{first[1][0]} as {first[0]} has", remedy="--size resizes all")
    height, width = size or (first[1][1], first[1][0])
    return (1 if gray or all_gray else 3, height, width)


def read_image(path, shape):
    """The image as uint8 (C,H,W)."""
    with decode.open_image(path) as opened:
        image = decode.convert(opened, "L" if shape[0] == 1 else "RGB", path)
        if (image.height, image.width) != shape[1:]:
            image = image.resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
        return decode.to_array(image)


def number_labels(texts):
    """(numbers, classes, names): whole numbers as they are, other labels by the order of their sorted names."""
    if all(text.isascii() and text.isdigit() for text in texts):
        numbers = [int(text) for text in texts]
        classes = max(numbers) + 1
        return numbers, classes, [str(number) for number in range(classes)]
    names = sorted(set(texts))
    index = {name: number for number, name in enumerate(names)}
    return [index[text] for text in texts], len(names), names


def main(arguments):
    parser = pixels.parser_for("scripts/prepare images", DESCRIPTION)
    parser.add_argument("--gray", action="store_true", help="turn the images to gray, one channel")
    add_processes(parser)
    given = parser.parse_args(arguments)
    processes = parse_processes(given.processes)
    size = parse_size(given.size)
    if given.source.is_dir():
        listing = from_folders(given.source)
    elif given.source.is_file():
        listing = from_table(given.source)
    else:
        raise UserError(given.source, "--source", "nothing there", "a folder of images or a CSV table")
    labels, classes, names = number_labels(listing.labels)
    numbers = pixels.split_numbers(given, labels, listing.splits, given.source)
    shape = survey(listing.paths, size, given.gray)
    groups, group_names = (None, None)
    if listing.groups is not None:
        groups, group_names = pixels.group_numbers(listing.groups, given.source)

    with decode.Reader(functools.partial(read_image, shape=shape), shape, processes) as reader:
        pixels.write(given, labels=labels, classes=classes, class_names=names, numbers=numbers, shape=shape,
                     dtype=np.uint8, divisor=255, groups=groups, group_names=group_names,
                     pieces_of=lambda chosen: reader.pieces(listing.paths[number] for number in chosen))
