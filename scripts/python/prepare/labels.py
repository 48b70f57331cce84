"""What the source calls its classes to their numbers: the indices of the network's outputs."""

import dataclasses
import pathlib
import re

import numpy as np

from common.errors import UserError, nearest, note
from prepare.options import parse_whole

NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
MOST_CLASSES = 1_000_000
MOST_NAMES = 4000  # more do not fit into an attribute of HDF5 (64 KB)
PAIRS = 12  # of names and numbers that a note shows
ORDERS = ("numbers", "names")


def add_options(parser):
    parser.add_argument("--classes", metavar="N", help="how many classes there are, where some of them have no images")
    parser.add_argument("--class-names", metavar="NAME,...|FILE", help="all classes in the order of the network's "
                        "outputs (in a file: a name per line)")
    parser.add_argument("--class-order", choices=ORDERS, help="labels that are whole numbers: numbers takes them as "
                        "they are (the default), names sorts them as text, as torchvision's ImageFolder does")


@dataclasses.dataclass
class Source:
    """Where the labels come from, for notes and errors."""
    file: pathlib.Path
    what: str = "labels"             # "folders" where they are names of folders
    place_of: object = None          # label -> (file, place) where it stands first
    folders: tuple = ()              # classes that are there without an image, perhaps
    at_least: int = 0                # classes that the source itself tells of
    tells_all: bool = False          # it does tell
    names: tuple = ()                # what it calls them, by number

    def error(self, label, expected, remedy):
        file, place = self.place_of(label) if self.place_of else (self.file, self.what)
        return UserError(file, place, f'label "{label}"', expected, remedy)


@dataclasses.dataclass
class Classes:
    """The number of every label, and what the classes are called."""
    numbers: dict       # label -> number
    count: int
    names: list         # by number
    order: str          # what decided it: numbers, names, listed

    def number(self, labels):
        return np.array([self.numbers[label] for label in labels], dtype=np.int64)

    def describe(self):
        """What the data file says of the classes."""
        return {"class_names": self.names if self.count <= MOST_NAMES else None, "class_order": self.order}


def read_class_names(text):
    """The names of --class-names, or None without it."""
    if text is None:
        return None
    path = pathlib.Path(text)
    if path.is_file():
        try:
            names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise UserError(path, found="bytes that are no text", expected="a class name per line") from error
    else:
        names = [name.strip() for name in text.split(",")]
    place = "--class-names"
    if len(names) < 2 or not all(names):
        raise UserError(place, found=f'"{text}"', expected="two names or more with commas between, or a file of them")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(place, found=f"{twice[0]} twice", expected="every class once")
    return names


def _pairs(numbers):
    """"NAME=NUMBER ..." in the order of the numbers."""
    names = sorted(numbers, key=numbers.get)
    return " ".join(f"{name}={numbers[name]}" for name in names[:PAIRS]) + (" ..." if len(names) > PAIRS else "")


def _whole(labels, source):
    """{label: number} of labels that are whole numbers from 0 on."""
    numbers, first = {}, {}
    as_names = f"--class-order names takes the {source.what} as names"
    for label in labels:
        value = float(label)
        if value < 0:
            raise source.error(label, "whole numbers from 0 on", "classes count from 0 as the network's outputs do: "
                               f"add the same number to every label, or {as_names}")
        if value != int(value):
            raise source.error(label, "whole numbers, such as 2 or 2.0", as_names)
        if value >= MOST_CLASSES:
            raise source.error(label, f"numbers below {MOST_CLASSES}", as_names)
        numbers[label] = int(value)
        if label in source.folders and first.setdefault(int(value), label) != label:
            raise source.error(label, f"another number than {first[int(value)]} is", as_names)
    return numbers


def _by_list(labels, names, source):
    if set(labels) <= set(names):
        numbers = {name: number for number, name in enumerate(names)}
    else:
        unknown = next(label for label in labels if label not in names)
        if not all(map(NUMBER.fullmatch, labels)):
            raise source.error(unknown, "one of --class-names", nearest(unknown, names))
        numbers = _whole(labels, source)
        for label, number in numbers.items():
            if number >= len(names):
                raise source.error(label, f"0 to {len(names) - 1}, as --class-names lists {len(names)}", "")
    return Classes(numbers, len(names), names, "listed")


def _by_number(labels, count, source):
    numbers = _whole(labels, source)
    needed = max(max(numbers.values()) + 1, source.at_least)
    if count is not None:
        for label, number in numbers.items():
            if number >= count:
                raise source.error(label, f"0 to {count - 1}, as --classes says {count}", "")
    if any("." in label for label in labels):
        with_point = next(label for label in labels if "." in label)
        note(f"{source.file}: {source.what} such as {with_point} are taken as whole numbers")
    count = count or needed
    if count > MOST_CLASSES:
        raise UserError(source.file, "classes", f"{count:g}", f"at most {MOST_CLASSES}")
    names = list(source.names) if len(source.names) == count else [str(number) for number in range(count)]
    return Classes(numbers, count, names, "numbers")


def _by_name(labels, count, source):
    names = sorted(labels)
    if count is not None and count != len(names):
        raise UserError(source.file, source.what, f"{len(names)} classes: {', '.join(names[:10])}"
                        + (", ..." if len(names) > 10 else ""), f"{count}, as --classes says",
                        "--class-names lists all of them in the order of the network's outputs")
    return Classes({name: number for number, name in enumerate(names)}, len(names), names, "names")


def _say(classes, labels, given, source):
    """Notes on what a reader could take otherwise."""
    by_text = {name: number for number, name in enumerate(sorted(labels))}
    if source.what == "folders" and all(map(NUMBER.fullmatch, labels)) and classes.order != "listed":
        if classes.order == "names":
            note(f"{source.file}: the folders are numbered in the order of their names as text: {_pairs(by_text)}")
        elif by_text != classes.numbers:
            hint = "" if given.class_order else "; --class-order names does that, too"
            note(f"{source.file}: the folders are numbers and taken as labels: {_pairs(classes.numbers)} of "
                 f"{classes.count} classes. torchvision's ImageFolder numbers them by text: {_pairs(by_text)}{hint}")
    elif source.what != "folders" and classes.order == "numbers" and given.classes is None and not source.tells_all:
        note(f"{source.file}: labels 0 to {classes.count - 1} are taken to be all classes; --classes N where the "
             "network has more outputs")


def _say_empty(classes, used, source):
    empty = [number for number in range(classes.count) if number not in used]
    if empty:
        shown = ", ".join(str(number) if str(number) == classes.names[number] else f"{classes.names[number]} ({number})"
                          for number in empty[:10]) + (", ..." if len(empty) > 10 else "")
        verb = "has" if len(empty) == 1 else "have"
        note(f"{source.file}: {len(empty)} of {classes.count} classes {verb} no image: {shown}")


def number_classes(labels, given, source):
    """Classes of the different texts `labels` (in the order in which they are met), by the options `given`."""
    labels = list(dict.fromkeys(labels))
    every = list(dict.fromkeys([*labels, *source.folders]))
    names = read_class_names(given.class_names)
    count = None if given.classes is None else parse_whole("--classes", given.classes, 2)
    numeric = all(map(NUMBER.fullmatch, every))
    if given.class_order == "numbers" and not numeric:
        unfit = next(label for label in every if not NUMBER.fullmatch(label))
        raise source.error(unfit, "a number, as --class-order numbers says", "")
    if names is not None:
        if given.class_order is not None:
            raise UserError("--class-order", found="--class-names as well", expected="one of the two")
        if count is not None and count != len(names):
            raise UserError("--classes", found=str(count), expected=f"{len(names)}, as --class-names lists")
        classes = _by_list(every, names, source)
    elif numeric and given.class_order != "names":
        classes = _by_number(every, count, source)
    else:
        classes = _by_name(every, count, source)
    _say(classes, every, given, source)
    _say_empty(classes, {classes.numbers[label] for label in labels}, source)
    return classes
