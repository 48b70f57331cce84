"""UTKFace: the gender of faces, with race (white or not) as the sensitive group."""

import functools
import os
import pathlib
import re
import sys

import numpy as np

from common.errors import UserError
from prepare.container import writing
from prepare.decode import Crop, Reader
from prepare.official import Origin, check_folder, missing_text
from prepare.options import add_constants, add_processes, parse_constants, parse_processes, parse_whole
from prepare.splits import permutation

NEEDS_SOURCE = True
ORIGIN = Origin("UTKFace (aligned and cropped faces)",
                "https://susanqq.github.io/UTKFace/, there Aligned&Cropped Faces, UTKFace.tar.gz, unpacked "
                "(no checksum is published)",
                "non-commercial research only; the copyright of the images is with their owners")
NAME = re.compile(r"\d+_([01])_([0-4])_\d.*\.(?:jpe?g|png)", re.IGNORECASE)  # age, gender, race, date
COUNT = 23704  # well-formed names
SIZE = 64
MEAN = [0.03317774]
STD = [0.18214759]


def add_options(parser):
    parser.add_argument("--size", default=str(SIZE), metavar="N",
                        help=f"height and width of the images, cut from the middle (default {SIZE})")
    add_constants(parser)
    add_processes(parser)


def list_faces(source):
    """(folder, names) of the faces, in the byte order of their names."""
    source = check_folder(source, ORIGIN)
    folder = source / "UTKFace" if (source / "UTKFace").is_dir() else source
    names, others = [], []
    for name in sorted(os.listdir(folder), key=os.fsencode):
        if NAME.fullmatch(name):
            names.append(name)
        elif not name.startswith("."):
            others.append(name)
    if others:
        shown = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
        print(f"note: {folder}: {len(others)} files are not named AGE_GENDER_RACE_DATE.jpg and are left out: {shown}",
              file=sys.stderr)
    if not names:
        files = ["AGE_GENDER_RACE_DATE.jpg.chip.jpg, 23,708 of them (four lack the race and are left out)"]
        raise UserError(folder, found="no faces", expected=missing_text(files, ORIGIN))
    return folder, names


def cut(count, source):
    """Image numbers per split. Of p(count) the first twelfth, rounded up, is repair, the next one test, the next,
    rounded down, validation, the rest train: 1976, 1976, 1975 and 17777 of the 23,704."""
    if count < 12:
        raise UserError(source, found=f"{count} faces", expected="12 or more, so that no split is empty")
    if count != COUNT:
        print(f"note: {source}: {count} faces instead of {COUNT}; they are split in the same proportions",
              file=sys.stderr)
    order = permutation(count)
    twelfth = -(-count // 12)
    repair, test, validation, train = np.split(order, [twelfth, 2 * twelfth, 2 * twelfth + count // 12])
    return {"train": train, "validation": validation, "repair": repair, "test": test}


def prepare(source, out, check, size=str(SIZE), mean=None, std=None, processes=None):
    del check  # no checksums are published
    size = parse_whole("--size", size)
    mean = parse_constants("--mean", mean, 3, MEAN, False)
    std = parse_constants("--std", std, 3, STD, True)
    processes = parse_processes(processes)
    folder, names = list_faces(pathlib.Path(source))
    numbers = cut(len(names), folder)
    values = [NAME.fullmatch(name).groups() for name in names]
    labels = np.array([int(gender) for gender, _ in values])
    groups = np.array([int(race != "0") for _, race in values], np.uint8)
    crop = Crop(size, size)
    with Reader(crop.read, crop.shape, processes, len(names), folder) as reader, writing(out, len(names)) as data:
        data.describe(classes=2, divisor=255, mean=mean, std=std, class_names=["male", "female"],
                      group_names=["white", "nonwhite"], source="UTKFace, https://susanqq.github.io/UTKFace/",
                      terms=ORIGIN.terms, pixels=str(crop),
                      splits="p(n) = RandomState(42).permutation(n) of the images in the byte order of their names; "
                             "repair, test and validation a twelfth of it each, train the rest")
        for name, chosen in numbers.items():
            paths = map(functools.partial(os.path.join, folder), (names[number] for number in chosen))
            data.add_split(name, labels[chosen], reader.pieces(paths), crop.shape, np.uint8, groups[chosen])
