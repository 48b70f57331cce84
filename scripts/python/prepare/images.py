"""One's own image files, from folders or from a table."""

import csv
import dataclasses
import functools

import numpy as np
from PIL import Image

from common import kinds
from common.errors import UserError, nearest, note, raise_together
from prepare import decode, pixels
from prepare import labels as class_labels
from prepare.options import add_processes, parse_processes, parse_size
from prepare.splits import is_split_name, split_name

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
COLUMNS = ("path", "label", "split", "group")

DESCRIPTION = """Images in folders SPLIT/CLASS/FILE, or CLASS/FILE with --split, or listed in a CSV table with the
columns path and label and, where wanted, split and group (paths relative to the table; two groups). SPLIT is train,
validation (also val, valid), repair or test; --repair-from val=.5 cuts repair out of another split. Labels that are
all whole numbers are used as they are; otherwise classes are numbered in the order of their sorted names
(--class-order, --class-names). The images have one channel if all are gray (or --gray is given), else three;
transparency is dropped."""


@dataclasses.dataclass
class Listing:
    """The images in reading order, with what the source says of each."""
    paths: list
    labels: list          # texts
    splits: list = None   # or None where the source does not say
    groups: list = None
    lines: list = None    # of a table
    folders: list = None  # names of all class folders, also of empty ones

    def source(self, file):
        """Where a label stands, for errors."""
        def place_of(label):
            if self.lines is not None:
                return file, f"line {self.lines[self.labels.index(label)]}"
            return file, f"folder {label}"
        return class_labels.Source(file, "labels" if self.folders is None else "folders", place_of,
                                   tuple(self.folders or ()))


def _entries(folder):
    return sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda entry: entry.name)


def _class_folder(folder, listing, ignored, split=None):
    listing.folders.append(folder.name)
    for entry in _entries(folder):
        if entry.is_dir():
            raise UserError(entry, found="a folder inside a class",
                            expected="image files: SPLIT/CLASS/FILE or CLASS/FILE")
        if entry.suffix.lower() not in SUFFIXES:
            ignored.append(entry)
            continue
        listing.paths.append(entry)
        listing.labels.append(folder.name)
        if split is not None:
            listing.splits.append(split)


def _holds_folders(folder):
    return any(entry.is_dir() for entry in _entries(folder))


def _split_folders(root, folders):
    """{split: folder} where the folders are splits; empty where they are classes."""
    if not any(is_split_name(folder.name) and _holds_folders(folder) for folder in folders):
        return {}
    splits = {}
    for folder in folders:
        name = split_name(folder.name, folder, "folder")
        if splits.setdefault(name, folder) != folder:
            raise UserError(root, f"folders {splits[name].name} and {folder.name}",
                            f"two folders for the split {name}", "one")
    return splits


def from_folders(root):
    """The images below a folder, in the order of their names."""
    folders = [entry for entry in _entries(root) if entry.is_dir()]
    if not folders:
        raise UserError(root, found="no folders", expected="SPLIT/CLASS/FILE or CLASS/FILE")
    listing, ignored = Listing([], [], folders=[]), [entry for entry in _entries(root) if not entry.is_dir()]
    splits = _split_folders(root, folders)
    if not splits and all(is_split_name(folder.name) for folder in folders):
        raise UserError(root, found=f"{', '.join(folder.name for folder in folders)} without folders in them",
                        expected="a folder per class: SPLIT/CLASS/FILE")
    if splits:
        listing.splits = []
    for split, folder in splits.items():
        for entry in _entries(folder):
            if entry.is_dir():
                _class_folder(entry, listing, ignored, split)
            else:
                ignored.append(entry)
    for folder in () if splits else folders:
        _class_folder(folder, listing, ignored)
    listing.folders = sorted(set(listing.folders))
    if ignored:
        note(f"{len(ignored)} files are not images by their names, or lie in no class, and are left out, such as "
             f"{ignored[0]}")
    if not listing.paths:
        raise UserError(root, found="no images", expected="files ending in " + " ".join(SUFFIXES))
    return listing


def _check_columns(table, columns):
    for name in ("path", "label"):
        if name not in columns:
            raise UserError(table, "line 1", "columns " + (", ".join(columns) or "(none)"), f"a column {name}")
    for name in columns:
        if name not in COLUMNS:
            raise UserError(table, "line 1", f'column "{name}"', "one of " + ", ".join(COLUMNS), nearest(name, COLUMNS))


def _add_row(listing, row, table, line, columns):
    place = f"line {line}"
    if None in row or None in row.values() or not all(value.strip() for value in row.values()):
        raise UserError(table, place, "a missing, empty or extra field", f"{len(columns)} fields")
    if any("\0" in value for value in row.values()):
        raise UserError(table, place, "a zero byte", "text")
    path = table.parent / row["path"]
    if not path.is_file():
        raise UserError(table, place, f"{path}, which is not there", "an image file")
    split = split_name(row["split"].strip(), table, place) if listing.splits is not None else None
    listing.paths.append(path)
    listing.labels.append(row["label"].strip())
    listing.lines.append(line)
    if listing.splits is not None:
        listing.splits.append(split)
    if listing.groups is not None:
        listing.groups.append(row["group"].strip())


def from_table(table):
    """The images that a CSV table lists; all rows that cannot be used are named at once."""
    kinds.refuse(table, kinds.kind_of(table), "a CSV table in UTF-8", kinds.DOWNLOADS)
    listing, wrong = Listing([], [], lines=[]), []
    try:
        with open(table, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = reader.fieldnames or []
            _check_columns(table, columns)
            listing.splits = [] if "split" in columns else None
            listing.groups = [] if "group" in columns else None
            for row in reader:
                try:
                    _add_row(listing, row, table, reader.line_num, columns)
                except UserError as error:
                    wrong.append(error)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(table, found=f"text that cannot be read ({error})", expected="a CSV table in UTF-8") from error
    raise_together(table, wrong, "rows that cannot be used", "none")
    if not listing.paths:
        raise UserError(table, found="no rows", expected="one image a row")
    return listing


def survey(paths, size, gray, source):
    """Looks at every file's header before anything is written: (channels, height, width) of all images. All files that
    cannot be opened, or are of another size, are named at once."""
    all_gray, first, wrong = True, None, []
    for path in paths:
        try:
            with decode.open_image(path) as image:
                all_gray = all_gray and image.mode in decode.GRAY_MODES
                if first is None:
                    first = (path, image.size)
                elif size is None and image.size != first[1]:
                    wrong.append(UserError(path, found=f"{image.size[1]}x{image.size[0]} pixels (height x width)",
                                           expected=f"{first[1][1]}x{first[1][0]} as {first[0]} has",
                                           remedy="--size resizes all"))
        except UserError as error:
            wrong.append(error)
    raise_together(source, wrong, f"of {len(paths)} images that cannot be used", "whole images of one size")
    height, width = size or (first[1][1], first[1][0])
    return (1 if gray or all_gray else 3, height, width)


def read_image(path, shape):
    """The image as uint8 (C,H,W)."""
    with decode.open_image(path) as opened:
        image = decode.convert(opened, "L" if shape[0] == 1 else "RGB", path)
        if (image.height, image.width) != shape[1:]:
            image = image.resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
        return decode.to_array(image)


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
    classes = class_labels.number_classes(listing.labels, given, listing.source(given.source))
    labels = classes.number(listing.labels)
    numbers = pixels.split_numbers(given, labels, listing.splits, given.source)
    shape = survey(listing.paths, size, given.gray, given.source)
    groups, group_names = (None, None)
    if listing.groups is not None:
        groups, group_names = pixels.group_numbers(listing.groups, given.source)

    total = sum(map(len, numbers.values()))
    with decode.Reader(functools.partial(read_image, shape=shape), shape, processes, total, given.source) as reader:
        pixels.write(given, labels=labels, classes=classes, numbers=numbers, shape=shape, dtype=np.uint8, divisor=255,
                     groups=groups, group_names=group_names,
                     pieces_of=lambda chosen: reader.pieces(listing.paths[number] for number in chosen))
